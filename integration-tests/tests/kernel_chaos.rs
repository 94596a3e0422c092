//! Hundreds of connections with the kernel at once, each end doing what a seed says: writing and reading in odd pieces,
//! pausing, half-closing, dropping, resetting. What arrives is always a prefix of what was sent, all of it when both ends
//! close in order, and nothing stays behind. `TIDEWIRE_CHAOS_SEED=N` moves the seeds, for other connections than CI's.

#![cfg(target_os = "linux")]

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use socket2::SockRef;
use tidewire::tcp::info::State;
use tidewire_integration_tests::kernel::{Family, Link, LinkConfig, kernel_listen, kernel_socket};
use tidewire_integration_tests::namespace::{Flavor, announce, run, run_program};
use tidewire_netdev::memory::ImpairmentConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const LIMIT: Duration = Duration::from_secs(60);

/// How an end ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Writes everything, half-closes, reads to the end.
    Orderly,
    /// Goes away after so many octets in either direction, with whatever is unread or unsent.
    Dropped(usize),
    /// The same with a linger time of zero.
    Reset(usize),
}

/// What one end does.
#[derive(Clone, Debug)]
struct Script {
    seed: u64,
    /// Octets to write.
    total: usize,
    ending: Ending,
    /// The largest piece read or written at once.
    piece: usize,
    /// One in so many operations is followed by a pause.
    pause_every: u32,
    nodelay: bool,
    /// Octets of buffers, if not the default.
    buffers: Option<u32>,
}

impl Script {
    fn new(random: &mut ChaCha8Rng, orderly: bool) -> Self {
        let total = [0, 1, 1000, 20_000, 300_000, 1_000_000][random.random_range(0..6)];
        let after = random.random_range(0..400_000);
        Self {
            seed: random.random(),
            total,
            ending: match random.random_range(0..3) {
                _ if orderly => Ending::Orderly,
                0 => Ending::Orderly,
                1 => Ending::Dropped(after),
                _ => Ending::Reset(after),
            },
            piece: [10, 1000, 10_000, 100_000][random.random_range(0..4)],
            pause_every: [5, 50, 1000][random.random_range(0..3)],
            nodelay: random.random(),
            buffers: [None, None, Some(5000), Some(100_000)][random.random_range(0..4)],
        }
    }
}

/// The octet at `offset` of what a script writes.
fn octet(seed: u64, offset: usize) -> u8 {
    let mixed = (offset as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as u8
}

/// What became of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It saw the end of the stream after so many octets.
    Ended(usize),
    /// It went away by itself.
    Left,
    /// The connection failed under it.
    Failed(ErrorKind),
}

async fn pause(random: &mut ChaCha8Rng, script: &Script) {
    if random.random_range(0..script.pause_every) == 0 {
        let micros = random.random_range(0..3000);
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

/// Writes until done, or until it should leave.
async fn write<W: AsyncWrite + Unpin>(mut to: W, script: &Script) -> io::Result<bool> {
    let mut random = ChaCha8Rng::seed_from_u64(script.seed ^ 1);
    let mut offset = 0;
    let mut piece = Vec::new();
    while offset < script.total {
        if let Ending::Dropped(after) | Ending::Reset(after) = script.ending
            && offset >= after
        {
            return Ok(false);
        }
        let len = random
            .random_range(1..=script.piece)
            .min(script.total - offset);
        piece.clear();
        piece.extend((offset..offset + len).map(|offset| octet(script.seed, offset)));
        offset += to.write(&piece).await?;
        pause(&mut random, script).await;
    }
    if script.ending != Ending::Orderly {
        return Ok(false);
    }
    to.shutdown().await?;
    Ok(true)
}

/// Reads to the end, or until it should leave (`None`); what comes must be what `peer` wrote.
async fn read<R: AsyncRead + Unpin>(
    mut from: R,
    script: &Script,
    peer: &Script,
) -> io::Result<Option<usize>> {
    let mut random = ChaCha8Rng::seed_from_u64(script.seed ^ 2);
    let mut offset = 0;
    let mut piece = vec![0; script.piece];
    loop {
        if let Ending::Dropped(after) | Ending::Reset(after) = script.ending
            && offset >= after
        {
            return Ok(None);
        }
        let room = random.random_range(1..=script.piece);
        let count = from.read(&mut piece[..room]).await?;
        if count == 0 {
            return Ok(Some(offset));
        }
        for (index, &got) in piece[..count].iter().enumerate() {
            let at = offset + index;
            assert_eq!(got, octet(peer.seed, at), "octet {at} of {peer:?}");
        }
        offset += count;
        assert!(offset <= peer.total, "more than was sent: {peer:?}");
        pause(&mut random, script).await;
    }
}

async fn act<S>(stream: S, script: &Script, peer: &Script) -> (S, Outcome)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, writer) = tokio::io::split(stream);
    let (mut reader, mut writer) = (reader, writer);
    let outcome = if script.ending == Ending::Orderly {
        let both =
            async { tokio::join!(write(&mut writer, script), read(&mut reader, script, peer)) };
        match both.await {
            (Ok(_), Ok(Some(count))) => Outcome::Ended(count),
            (Ok(_), Ok(None)) => Outcome::Left,
            (Err(error), _) | (_, Err(error)) => Outcome::Failed(error.kind()),
        }
    } else {
        // Whichever direction first has enough takes the other with it.
        tokio::select! {
            biased;
            written = write(&mut writer, script) => match written {
                Ok(_) => Outcome::Left,
                Err(error) => Outcome::Failed(error.kind()),
            },
            read = read(&mut reader, script, peer) => match read {
                Ok(_) => Outcome::Left,
                Err(error) => Outcome::Failed(error.kind()),
            },
        }
    };
    (reader.unsplit(writer), outcome)
}

/// A connection between the two scripts' ends.
async fn connect(
    link: &Link,
    family: Family,
    kernel_listens: bool,
    ours: &Script,
    theirs: &Script,
) -> (tidewire::net::TcpStream, tokio::net::TcpStream) {
    let socket = match family {
        Family::V4 => link.stack.tcp_socket_v4(),
        Family::V6 => link.stack.tcp_socket_v6(),
    };
    let socket = socket.expect("a socket");
    if let Some(octets) = ours.buffers {
        socket.set_send_buffer_size(octets).expect("a plain option");
        socket.set_recv_buffer_size(octets).expect("a plain option");
    }
    let kernel = kernel_socket(family);
    if let Some(octets) = theirs.buffers {
        kernel.set_send_buffer_size(octets).expect("a plain option");
        kernel.set_recv_buffer_size(octets).expect("a plain option");
    }
    let (ours_end, kernel_end) = if kernel_listens {
        let listener = kernel_listen(SocketAddr::new(family.kernel(), 0));
        let address = listener.local_addr().expect("bound");
        let (ours, kernel) = tokio::join!(socket.connect(address), listener.accept());
        (ours.expect("connected"), kernel.expect("accepted").0)
    } else {
        socket
            .bind(SocketAddr::new(family.stack(), 0))
            .expect("a free port");
        let listener = socket.listen(8).expect("bound");
        let address = listener.local_addr().expect("bound");
        let (kernel, ours) = tokio::join!(kernel.connect(address), listener.accept());
        (ours.expect("accepted").0, kernel.expect("connected"))
    };
    ours_end.set_nodelay(ours.nodelay).expect("a plain option");
    // The peer may be gone already.
    let _ = kernel_end.set_nodelay(theirs.nodelay);
    (ours_end, kernel_end)
}

/// One connection from its opening to its end.
async fn converse(link: &Link, family: Family, index: u64, orderly: bool) {
    let mut random = ChaCha8Rng::seed_from_u64(index);
    let mut ours = Script::new(&mut random, orderly);
    let mut theirs = Script::new(&mut random, orderly);
    // Pauses must not add up to many seconds.
    let least = ours.total.max(theirs.total) / 200;
    ours.piece = ours.piece.max(least);
    theirs.piece = theirs.piece.max(least);
    let kernel_listens = random.random();
    let (our_end, kernel_end) = connect(link, family, kernel_listens, &ours, &theirs).await;
    let our_part = async {
        let (stream, outcome) = act(our_end, &ours, &theirs).await;
        if let Ending::Reset(_) = ours.ending {
            stream.set_zero_linger().expect("a plain option");
        }
        drop(stream);
        outcome
    };
    let kernel_part = async {
        let (stream, outcome) = act(kernel_end, &theirs, &ours).await;
        if let Ending::Reset(_) = theirs.ending {
            SockRef::from(&stream)
                .set_linger(Some(Duration::ZERO))
                .expect("a plain option");
        }
        drop(stream);
        outcome
    };
    let both = async { tokio::join!(our_part, kernel_part) };
    let case = format!("connection {index}: {ours:?}, {theirs:?}");
    let outcomes = link.within(LIMIT / 3, &case, both).await;
    check(&ours, &theirs, outcomes, index);
}

fn check(ours: &Script, theirs: &Script, outcomes: (Outcome, Outcome), index: u64) {
    let context = || format!("connection {index}: {ours:?}, {theirs:?}: {outcomes:?}");
    if ours.ending == Ending::Orderly && theirs.ending == Ending::Orderly {
        let whole = (Outcome::Ended(theirs.total), Outcome::Ended(ours.total));
        assert_eq!(outcomes, whole, "{}", context());
    }
    for outcome in [outcomes.0, outcomes.1] {
        if let Outcome::Failed(kind) = outcome {
            let expected = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            assert!(expected.contains(&kind), "{}", context());
        }
    }
}

/// Connections that are neither in TIME-WAIT nor gone, on both sides.
fn left_over(link: &Link) -> (usize, String) {
    let sockets = link.stack.sockets();
    let ours = sockets
        .iter()
        .filter(|socket| socket.state != Some(State::TimeWait));
    let arguments = ["-tanH", "state", "connected", "exclude", "time-wait"];
    let theirs = run_program("ss", &arguments).unwrap_or_default();
    (ours.count(), theirs)
}

async fn chaos(config: LinkConfig, family: Family, seeds: std::ops::Range<u64>, orderly: bool) {
    let link = Link::start(&config).await;
    let case = format!("{family:?}, seeds {seeds:?}, orderly: {orderly}");
    join_all(seeds.map(|index| converse(&link, family, index, orderly))).await;
    for _ in 0..400 {
        let (ours, theirs) = left_over(&link);
        if ours == 0 && theirs.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (ours, theirs) = left_over(&link);
    assert!(
        ours == 0 && theirs.is_empty(),
        "{case}: left over: {}",
        link.report()
    );
    link.assert_clean();
}

fn run_chaos(test: &str, cases: Vec<(Flavor, LinkConfig, bool)>, count: u64) {
    let moved = std::env::var("TIDEWIRE_CHAOS_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let moved: u64 = moved.unwrap_or(0);
    let mut done = 0;
    for (index, (flavor, config, orderly)) in cases.into_iter().enumerate() {
        for family in Family::ALL {
            let config = config.clone();
            let first = moved + 10_000 * index as u64 + if family == Family::V6 { 5000 } else { 0 };
            run(test, flavor, LIMIT, move || {
                chaos(config, family, first..first + count, orderly)
            });
            done += 1;
        }
    }
    announce(&format!("kernel: {done} cases ({test})"));
}

#[test]
fn nothing_is_lost_or_left_whatever_both_ends_do() {
    let plain = LinkConfig {
        offload: false,
        ..LinkConfig::default()
    };
    let cases = vec![
        (Flavor::CurrentThread, LinkConfig::default(), true),
        (Flavor::CurrentThread, LinkConfig::default(), false),
        (Flavor::CurrentThread, plain, false),
        (Flavor::Workers(3), LinkConfig::default(), true),
        (Flavor::Workers(3), LinkConfig::default(), false),
    ];
    run_chaos("nothing_is_lost_or_left_whatever_both_ends_do", cases, 80);
}

#[test]
fn nothing_is_lost_or_left_over_a_bad_path() {
    let impairment = ImpairmentConfig::delay(Duration::from_millis(1)).with_loss(0.01);
    let config = LinkConfig {
        impairment: Some(impairment),
        ..LinkConfig::default()
    };
    // Orderly ends only: a RST that is lost is not sent again, and its peer may wait for ever.
    let cases = vec![
        (Flavor::CurrentThread, config.clone(), true),
        (Flavor::Workers(3), config, true),
    ];
    run_chaos("nothing_is_lost_or_left_over_a_bad_path", cases, 40);
}
