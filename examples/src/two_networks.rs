//! An SCTP association over two networks, one of which is cut in the middle of a transfer and heals.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tidewire::Stack;
use tidewire::net::sctp::{RtoInfo, SctpListener, SendOptions, SocketOptions};
use tidewire_netdev::memory::impairment::{ImpairmentConfig, Loss};
use tidewire_netdev::memory::{ImpairmentMonitor, PairConfig, impaired_pair_with_monitors};
use tokio::time::{Instant, sleep};

/// What became of the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailOver {
    /// The longest time between two messages that arrived in a row.
    pub pause: Duration,
    /// Chunks that were sent again.
    pub retransmits: u64,
    /// Chunks that went by the network that was cut, by the end, and by the other one.
    pub chunks: [u64; 2],
}

impl fmt::Display for FailOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pause,
            retransmits,
            chunks: [first, second],
        } = self;
        write!(
            f,
            "sctp  two networks, the first cut from message {CUT} to {HEAL} of {MESSAGES}: none lost, the longest pause {pause:.1?}\n\
             sctp  that is one RTO, {MIN_RTO:?} at least, and the way by the second network, where {retransmits} chunks went again; {first} and {second} chunks went by each, and data is back on the first",
        )
    }
}

/// Messages, one every [`INTERVAL`], and the ones with which the first network is cut and heals.
const MESSAGES: u32 = 300;
const CUT: u32 = 100;
const HEAL: u32 = 200;
const INTERVAL: Duration = Duration::from_millis(10);
/// One way, on either network.
const DELAY: Duration = Duration::from_millis(20);
/// RTO.Min, as networks of telephony have it; RFC 9260's is one second.
const MIN_RTO: Duration = Duration::from_millis(200);

/// Both networks and the hosts on them.
struct Networks {
    alice: Stack,
    bob: Stack,
    /// Both directions of the first network.
    first: [ImpairmentMonitor; 2],
}

fn link() -> ImpairmentConfig {
    ImpairmentConfig::delay(DELAY)
}

fn build(seed: u64) -> io::Result<Networks> {
    let pair = |n| impaired_pair_with_monitors(PairConfig::default(), link(), link(), n);
    let (a_first, b_first, first) = pair(seed);
    let (a_second, b_second, _) = pair(seed.wrapping_add(1));
    let host = |first, second, last: u8| {
        Stack::builder()
            .device(first)
            .address(&*format!("10.8.1.{last}/24"))
            .device(second)
            .address(&*format!("10.8.2.{last}/24"))
            .seed(seed.wrapping_mul(2) + u64::from(last))
            .unregistered()
            .build()
    };
    Ok(Networks {
        alice: host(a_first, a_second, 1)?,
        bob: host(b_first, b_second, 2)?,
        first,
    })
}

/// Sends messages at a steady pace over two networks, and cuts the first in between.
///
/// # Errors
/// When a message is lost, comes twice or out of order, or the association fails.
pub async fn cut_one(seed: u64) -> io::Result<FailOver> {
    let networks = build(seed)?;
    let listener = networks.bob.sctp_listener("0.0.0.0:9").await?;
    let peers: [SocketAddr; 2] = [([10, 8, 1, 2], 9).into(), ([10, 8, 2, 2], 9).into()];
    let options = SocketOptions {
        rto: RtoInfo {
            initial: Some(MIN_RTO * 2),
            min: Some(MIN_RTO),
            max: Some(Duration::from_secs(1)),
        },
        nodelay: Some(true),
        ..SocketOptions::default()
    };
    let builder = networks.alice.sctp_builder().options(options);
    let receiving = tokio::spawn(receive(listener));
    let association = builder.connect(&peers[..]).await?;
    for number in 0..MESSAGES {
        let loss = match number {
            CUT => Some(Loss::Uniform(1.0)),
            HEAL => Some(Loss::Uniform(0.0)),
            _ => None,
        };
        if let Some(loss) = loss {
            let config = ImpairmentConfig { loss, ..link() };
            networks
                .first
                .iter()
                .for_each(|way| way.set_config(config.clone()));
        }
        association
            .send(message(number), SendOptions::default())
            .await?;
        sleep(INTERVAL).await;
    }
    let before = association.paths()[0].stats.chunks_sent;
    association
        .send(message(MESSAGES), SendOptions::default())
        .await?;
    association.shutdown().await?;
    if association.paths()[0].stats.chunks_sent == before {
        return Err(io::Error::other("data is not back on the first network"));
    }
    let pause = receiving.await.map_err(io::Error::other)??;
    let paths = association.paths();
    Ok(FailOver {
        pause,
        retransmits: association.stats().send.chunks_retransmitted,
        chunks: [0, 1].map(|path: usize| paths[path].stats.chunks_sent),
    })
}

fn message(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// Takes all messages in their order; the longest pause between two.
async fn receive(listener: SctpListener) -> io::Result<Duration> {
    let (association, _) = listener.accept().await?;
    let mut pause = Duration::ZERO;
    let mut last = None;
    for number in 0..=MESSAGES {
        let received = association.recv().await?;
        if received.is_none_or(|received| received.data != message(number)) {
            return Err(io::Error::other(format!("message {number} is missing")));
        }
        let now = Instant::now();
        pause = pause.max(last.map_or(Duration::ZERO, |last| now - last));
        last = Some(now);
    }
    association.closed().await?;
    Ok(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_and_the_pause_is_one_timeout_and_the_way() {
        for seed in 0..20 {
            let fail_over = cut_one(seed).await.expect("nothing is lost");
            let pause = fail_over.pause;
            assert!(
                pause >= MIN_RTO && pause < Duration::from_millis(500),
                "{pause:?}"
            );
            assert!(
                fail_over.chunks.iter().all(|chunks| *chunks > 90),
                "{fail_over:?}"
            );
        }
    }
}
