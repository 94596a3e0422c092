//! A device of one's own: two stacks joined by channels of IP packets, as user-space tunnels have them.
//!
//! A WireGuard implementation, a VPN client or a 5G core hands over decrypted IP packets one by one and takes what is to
//! be encrypted. Here that is a pair of bounded tokio channels. Needs no root and no interface of the kernel's:
//!
//! ```text
//!  alice's sockets ── Stack ── TunnelTransmitter ─▶ mpsc::channel(64) ─▶ TunnelReceiver ── Stack ── bob's sockets
//!                           ── TunnelReceiver ◀──── mpsc::channel(64) ◀─ TunnelTransmitter ──
//! ```

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Parser;
use sha2::{Digest, Sha256};
use tidewire::Stack;
use tidewire_netdev::{
    Capabilities, Device, Medium, OffloadSet, Packet, Receiver, Transmitter, coalescing,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};

/// Packets that come out of the tunnel.
struct TunnelReceiver {
    packets: mpsc::Receiver<Bytes>,
    /// Taken from the channel and not handed on; empty between calls.
    taken: Vec<Bytes>,
}

impl Receiver for TunnelReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        batch: &mut Vec<Packet>,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        // 0 means that the other side is gone, to the channel as to a stack.
        let count = ready!(
            self.packets
                .poll_recv_many(cx, &mut self.taken, limit.max(1))
        );
        batch.extend(self.taken.drain(..).map(Packet::from_bytes));
        Poll::Ready(Ok(count))
    }
}

type Permit = Result<mpsc::OwnedPermit<Bytes>, SendError<()>>;

/// Packets that go into the tunnel.
struct TunnelTransmitter {
    packets: mpsc::Sender<Bytes>,
    /// The wait for room, while there is one.
    room: Mutex<Option<Pin<Box<dyn Future<Output = Permit> + Send>>>>,
}

impl Transmitter for TunnelTransmitter {
    fn try_transmit(&self, queue: &mut VecDeque<Packet>) -> io::Result<()> {
        while let Some(packet) = queue.front() {
            match self.packets.try_reserve() {
                Ok(permit) => permit.send(packet.to_bytes()),
                // What stays in the queue holds back whoever sends: nothing is lost inside the process.
                Err(TrySendError::Full(())) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(TrySendError::Closed(())) => return Err(io::ErrorKind::BrokenPipe.into()),
            }
            queue.pop_front();
        }
        Ok(())
    }

    fn poll_transmit_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = room.get_or_insert_with(|| Box::pin(self.packets.clone().reserve_owned()));
        let permit = ready!(wait.as_mut().poll(cx));
        *room = None;
        // The place is given back at once, for `try_transmit` to take.
        Poll::Ready(
            permit
                .map(drop)
                .map_err(|_| io::ErrorKind::BrokenPipe.into()),
        )
    }
}

/// Both ends of a tunnel that holds up to `depth` packets in each direction.
fn tunnel(depth: usize) -> (Device, Device) {
    let end = |name: &str, packets_in, packets_out| {
        let receiver = TunnelReceiver {
            packets: packets_in,
            taken: Vec::new(),
        };
        let transmitter = TunnelTransmitter {
            packets: packets_out,
            room: Mutex::new(None),
        };
        let capabilities = Capabilities {
            medium: Medium::Ip,
            // As WireGuard has it; tunnels carry whole packets with complete checksums and nothing larger.
            mtu: 1420,
            offloads: OffloadSet::NONE,
            max_super_packet: 65_535,
        };
        // Not needed, but a stack is the faster for receiving many segments as one.
        coalescing::wrap(Device::new(name, receiver, transmitter, capabilities))
    };
    let (a_out, b_in) = mpsc::channel(depth);
    let (b_out, a_in) = mpsc::channel(depth);
    (end("tunnel0", a_in, a_out), end("tunnel1", b_in, b_out))
}

/// Two stacks joined by a channel of IP packets: a device of one's own
#[derive(Parser)]
struct Flags {
    /// Octets to transfer, in MiB
    #[arg(long, default_value_t = 32)]
    size: usize,
    /// Packets that the tunnel holds in each direction
    #[arg(long, default_value_t = 64)]
    depth: usize,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    tidewire_examples::logging::init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let limit = Duration::from_secs(30);
    let result = runtime.and_then(|runtime| {
        runtime.block_on(async { tokio::time::timeout(limit, transfer(&flags)).await? })
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tunnel: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Alice sends a file through the tunnel, Bob answers with its hash.
async fn transfer(flags: &Flags) -> io::Result<()> {
    let (a, b) = tunnel(flags.depth.max(1));
    let host = |device, address: &str| {
        Stack::builder()
            .device(device)
            .address(address)
            .unregistered()
            .build()
    };
    let alice = host(a, "10.9.0.1/24")?;
    let bob = host(b, "10.9.0.2/24")?;
    let listener = bob.tcp_listener("10.9.0.2:7000").await?;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            match stream.read(&mut buffer).await? {
                0 => break,
                len => hash.update(&buffer[..len]),
            }
        }
        stream.write_all(&hash.finalize()).await?;
        stream.shutdown().await?;
        bob.shutdown().await;
        io::Result::Ok(())
    });

    let begun = Instant::now();
    let mut stream = alice.tcp_stream("10.9.0.2:7000").await?;
    let mut sent = Sha256::new();
    for index in 0..flags.size {
        let chunk: Vec<u8> = (0..1 << 20)
            .map(|n: usize| (n * 31 + n / 251 + index) as u8)
            .collect();
        sent.update(&chunk);
        stream.write_all(&chunk).await?;
    }
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let elapsed = begun.elapsed();
    if answer != sent.finalize().as_slice() {
        return Err(io::Error::other("what arrived is not what was sent"));
    }
    let info = stream.info();
    drop(stream);
    alice.shutdown().await;
    server.await.map_err(io::Error::other)??;
    println!(
        "transferred {} MiB intact in {elapsed:.2?} ({:.0} MB/s), {} retransmissions",
        flags.size,
        (flags.size << 20) as f64 / elapsed.as_secs_f64() / 1e6,
        info.retransmits,
    );
    if info.retransmits > 0 {
        return Err(io::Error::other(
            "a tunnel that loses nothing lost something",
        ));
    }
    Ok(())
}
