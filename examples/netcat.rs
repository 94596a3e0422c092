//! Stdin to a connection, the connection to stdout, like nc.
//!
//! ```text
//! netcat --tun tw0 --address 10.7.0.2/24 10.7.0.1 4000        # connects
//! netcat --tun tw0 --address 10.7.0.2/24 -l 4000              # takes one connection
//! ```
//!
//! Stdout carries the data, so reports (`--json` too) go to stderr. The end of stdin ends our half of a TCP connection; the
//! program ends with the peer's half.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tidewire::net::{TcpListener, TcpStream, UdpSocket, lookup_host};
use tidewire_examples::{Result, Running, StackFlags, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt, stdin, stdout};

/// Connects stdin and stdout to a TCP connection or to UDP datagrams
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    stack: StackFlags,

    /// Wait for a peer instead of connecting
    #[arg(short, long)]
    listen: bool,

    /// Datagrams instead of a connection: each read of stdin is one
    #[arg(short, long)]
    udp: bool,

    /// With UDP: seconds to go on receiving after the end of stdin [default: for ever]
    #[arg(short, long, value_name = "SECONDS")]
    wait: Option<u64>,

    /// HOST PORT to connect to; with --listen [ADDRESS] PORT
    #[arg(num_args = 1..=2, value_names = ["HOST", "PORT"], required = true)]
    target: Vec<String>,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.target.len() < 2 && !flags.listen {
        let text = "HOST and PORT to connect to, or --listen PORT";
        let mut command = Flags::command();
        command
            .error(ErrorKind::MissingRequiredArgument, text)
            .exit();
    }
    run(&flags.stack, async |mut running| {
        running.output = running.output.on_stderr();
        let address = flags.address(&running).await?;
        if flags.udp {
            let socket = open_udp(&flags, &running, address).await?;
            relay_datagrams(&socket, flags.wait.map(Duration::from_secs)).await?;
        } else {
            let stream = open_tcp(&flags, &running, address).await?;
            relay_stream(stream).await?;
        }
        Ok(())
    })
}

impl Flags {
    /// The address to connect to or to bind.
    async fn address(&self, running: &Running) -> Result<SocketAddr> {
        let (host, port) = match &self.target[..] {
            [host, port] => (Some(host), port),
            [port] => (None, port),
            _ => return Err("too many arguments".into()),
        };
        let port: u16 = port
            .parse()
            .map_err(|_| format!("{port:?} is no port: 0 to 65535"))?;
        let Some(host) = host else {
            return Ok(running.listen_address(port));
        };
        let mut addresses = lookup_host((host.as_str(), port)).await?;
        let first = addresses.next();
        first.ok_or_else(|| format!("{host} has no address").into())
    }
}

async fn open_tcp(flags: &Flags, running: &Running, address: SocketAddr) -> io::Result<TcpStream> {
    if !flags.listen {
        return TcpStream::connect(address).await;
    }
    let listener = TcpListener::bind(address).await?;
    running.listening(listener.local_addr()?.port())?;
    let (stream, peer) = listener.accept().await?;
    tracing::info!(%peer, "accepted");
    Ok(stream)
}

async fn relay_stream(mut stream: TcpStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let send = async {
        tokio::io::copy(&mut stdin(), &mut writer).await?;
        // FIN: the peer sees the end of stdin, and may go on sending.
        writer.shutdown().await?;
        std::future::pending::<io::Result<()>>().await
    };
    let receive = async {
        let mut stdout = stdout();
        tokio::io::copy(&mut reader, &mut stdout).await?;
        stdout.flush().await
    };
    tokio::select! {
        result = send => result,
        result = receive => result,
    }
}

/// A socket connected to its peer; a listening one takes the first that sends, whose datagram goes to stdout at once.
async fn open_udp(flags: &Flags, running: &Running, address: SocketAddr) -> io::Result<UdpSocket> {
    if !flags.listen {
        let any = match address {
            SocketAddr::V4(_) => "0.0.0.0:0",
            SocketAddr::V6(_) => "[::]:0",
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        return Ok(socket);
    }
    let socket = UdpSocket::bind(address).await?;
    running.listening(socket.local_addr()?.port())?;
    let mut buffer = vec![0; 65_535];
    let (len, peer) = socket.recv_from(&mut buffer).await?;
    socket.connect(peer).await?;
    tracing::info!(%peer, "first datagram");
    print(&buffer[..len]).await?;
    Ok(socket)
}

async fn relay_datagrams(socket: &UdpSocket, wait: Option<Duration>) -> io::Result<()> {
    let send = async {
        let mut stdin = stdin();
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let len = stdin.read(&mut buffer).await?;
            if len == 0 {
                break;
            }
            socket.send(&buffer[..len]).await?;
        }
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
        Ok(())
    };
    let receive = async {
        let mut buffer = vec![0; 65_535];
        loop {
            let len = socket.recv(&mut buffer).await?;
            print(&buffer[..len]).await?;
        }
    };
    tokio::select! {
        result = send => result,
        result = receive => result,
    }
}

async fn print(octets: &[u8]) -> io::Result<()> {
    let mut stdout = stdout();
    stdout.write_all(octets).await?;
    stdout.flush().await
}
