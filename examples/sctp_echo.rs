//! The echo service over SCTP (RFC 862's, message by message), and a client that checks what comes back.
//!
//! ```text
//! sctp_echo server --tun tw0 --address 10.7.0.2/24 --bind 10.7.0.2:5000
//! sctp_echo client --tun tw0 --address 10.7.0.2/24 --connect 10.7.0.1:5000 --count 1000 --size 4096 --streams 4
//! ```

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Instant;

use bytes::Bytes;
use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tidewire::net::sctp::{InitMessage, SctpAssociation, SctpListener, SctpMessage, SendOptions};
use tidewire_examples::{Result, Running, StackFlags, run};

/// Sends messages back over SCTP, or checks that a peer does
#[derive(Parser)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send back every message on the stream it came on
    Server(Server),
    /// Send messages and check their echoes
    Client(Client),
}

#[derive(Args)]
struct Server {
    #[command(flatten)]
    stack: StackFlags,
    /// Addresses to listen on, all with one port [default: every address, port 7]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    bind: Vec<SocketAddr>,
    /// Serve all associations by one socket
    #[arg(long)]
    one_to_many: bool,
}

#[derive(Args)]
struct Client {
    #[command(flatten)]
    stack: StackFlags,
    /// Addresses of the peer, the primary one first
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', required = true)]
    connect: Vec<SocketAddr>,
    /// Messages to send, one at a time
    #[arg(long, value_name = "N", default_value_t = 100)]
    count: u64,
    /// Octets of a message
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    size: u32,
    /// Streams to send on in turn
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    streams: u16,
}

/// What a client has seen.
#[derive(Serialize)]
struct Echoed {
    event: &'static str,
    messages: u64,
    octets: u64,
    seconds: f64,
}

impl fmt::Display for Echoed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            messages,
            octets,
            seconds,
            ..
        } = self;
        write!(
            f,
            "{messages} messages, {octets} octets echoed in {seconds:.3} s"
        )
    }
}

fn main() -> ExitCode {
    match Flags::parse().command {
        Command::Server(flags) => {
            let bind = flags.bind;
            run(&flags.stack, async |running| match flags.one_to_many {
                true => serve_all(running, bind).await,
                false => serve(running, bind).await,
            })
        }
        Command::Client(flags) => run(&flags.stack, async |running| ask(running, &flags).await),
    }
}

async fn serve(running: Running, mut bind: Vec<SocketAddr>) -> Result {
    if bind.is_empty() {
        bind.push(running.listen_address(7));
    }
    let listener = SctpListener::bind(&bind[..]).await?;
    running.listening(bind[0].port())?;
    loop {
        let (association, peer) = listener.accept().await?;
        tokio::spawn(async move {
            match echo(&association).await {
                Ok(messages) => tracing::info!(%peer, messages, "closed"),
                Err(error) => tracing::info!(%peer, %error, "failed"),
            }
        });
    }
}

/// The same with one task and one socket, until a peer does not take its echoes: that one gets a task of its own.
async fn serve_all(running: Running, mut bind: Vec<SocketAddr>) -> Result {
    if bind.is_empty() {
        bind.push(running.listen_address(7));
    }
    let builder = running.stack.sctp_builder().nodelay(true);
    let socket = builder.socket(&bind[..]).await?;
    socket.listen()?;
    running.listening(bind[0].port())?;
    loop {
        let (id, peer, message) = socket.recv().await?;
        let options = back(&message);
        match socket.try_send(id, message.data.clone(), options) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // It may have ended in this moment.
                let Ok(association) = socket.peel_off(id) else {
                    continue;
                };
                tokio::spawn(async move {
                    association.send(message.data, options).await?;
                    echo(&association).await
                });
            }
            Err(error) => tracing::info!(%peer, %error, "failed"),
        }
    }
}

/// How the echo of a message is sent.
fn back(message: &SctpMessage) -> SendOptions {
    SendOptions {
        stream: message.stream,
        ppid: message.ppid,
        unordered: message.unordered,
        ..SendOptions::default()
    }
}

/// Until the peer shuts down. A message that comes in parts goes back in as many messages.
async fn echo(association: &SctpAssociation) -> io::Result<u64> {
    association.set_nodelay(true);
    let mut messages = 0;
    while let Some(message) = association.recv().await? {
        let options = back(&message);
        association.send(message.data, options).await?;
        messages += 1;
    }
    Ok(messages)
}

async fn ask(running: Running, flags: &Client) -> Result {
    let builder = running.stack.sctp_builder().nodelay(true);
    let association = builder
        .init(InitMessage {
            outbound_streams: Some(flags.streams),
            ..InitMessage::default()
        })
        .connect(&flags.connect[..])
        .await?;
    let streams = association.status().outbound_streams;
    let started = Instant::now();
    for i in 0..flags.count {
        let message: Bytes = (0..u64::from(flags.size))
            .map(|at| (i + at) as u8)
            .collect();
        let options = SendOptions {
            stream: (i % u64::from(streams)) as u16,
            ..SendOptions::default()
        };
        association.send(message.clone(), options).await?;
        let mut echoed = Vec::with_capacity(message.len());
        while echoed.len() < message.len() {
            let part = association.recv().await?;
            let part = part.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            if part.stream != options.stream {
                return Err("an echo came on another stream".into());
            }
            echoed.extend_from_slice(&part.data);
        }
        if echoed != message {
            return Err("an echo differs from what was sent".into());
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    association.shutdown().await?;
    running.output.event(&Echoed {
        event: "echoed",
        messages: flags.count,
        octets: flags.count * u64::from(flags.size),
        seconds,
    })?;
    Ok(())
}
