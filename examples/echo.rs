//! The echo service, TCP and UDP on one port (RFC 862).

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tidewire::net::{TcpListener, TcpStream, UdpSocket};
use tidewire_examples::{StackFlags, run};

/// Sends back what it gets, over TCP and UDP
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    stack: StackFlags,

    /// Port, of both TCP and UDP
    #[arg(long, default_value_t = 7)]
    port: u16,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    run(&flags.stack, async |running| {
        let address = running.listen_address(flags.port);
        let listener = TcpListener::bind(address).await?;
        let socket = UdpSocket::bind(address).await?;
        running.listening(flags.port)?;
        tokio::select! {
            result = accept(listener) => result?,
            result = echo_datagrams(socket) => result?,
        }
        Ok(())
    })
}

async fn accept(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept().await?;
        tokio::spawn(async move {
            match echo_stream(stream).await {
                Ok(octets) => tracing::info!(%peer, octets, "closed"),
                Err(error) => tracing::info!(%peer, %error, "failed"),
            }
        });
    }
}

/// Until the peer ends its half; then ours ends too.
async fn echo_stream(mut stream: TcpStream) -> io::Result<u64> {
    stream.set_nodelay(true)?;
    let (mut reader, mut writer) = stream.split();
    let octets = tokio::io::copy(&mut reader, &mut writer).await?;
    tokio::io::AsyncWriteExt::shutdown(&mut writer).await?;
    Ok(octets)
}

async fn echo_datagrams(socket: UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; 65_535];
    loop {
        let (len, peer) = socket.recv_from(&mut buffer).await?;
        if let Err(error) = socket.send_to(&buffer[..len], peer).await {
            // One peer out of reach does not end the service.
            tracing::info!(%peer, %error, "not echoed");
        }
    }
}
