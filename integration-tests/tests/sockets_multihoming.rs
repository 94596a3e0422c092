//! SCTP sockets of two stacks that are joined by two links, in virtual time.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use tidewire::Stack;
use tidewire::net::sctp::{
    Notification, PathChange, PathState, RtoInfo, SctpAssociation, SctpListener, SendOptions,
    SocketOptions, State, Subscriptions,
};
use tidewire_netdev::memory::impairment::{ImpairmentConfig, Loss};
use tidewire_netdev::memory::{ImpairmentMonitor, PairConfig, impaired_pair_with_monitors};
use tokio::time::{Instant, sleep, timeout};

const DELAY: Duration = Duration::from_millis(10);
const PORT: u16 = 5000;

struct Links {
    left: Stack,
    right: Stack,
    monitors: [[ImpairmentMonitor; 2]; 2],
}

fn way(loss: f64) -> ImpairmentConfig {
    ImpairmentConfig {
        loss: Loss::Uniform(loss),
        ..ImpairmentConfig::delay(DELAY)
    }
}

fn address(link: u8, last: u8) -> SocketAddr {
    ([10, 3, link, last], PORT).into()
}

impl Links {
    fn new() -> Self {
        Self::with_networks("10.3")
    }

    /// With IPv4 networks whose addresses begin so.
    fn with_networks(v4: &str) -> Self {
        let pair =
            |seed| impaired_pair_with_monitors(PairConfig::default(), way(0.0), way(0.0), seed);
        let (left_0, right_0, first) = pair(1);
        let (left_1, right_1, second) = pair(2);
        let host = |devices: [_; 2], last: u8| {
            let mut builder = Stack::builder().seed(u64::from(last)).unregistered();
            for (link, device) in devices.into_iter().enumerate() {
                builder = builder
                    .device(device)
                    .address(&*format!("{v4}.{link}.{last}/24"))
                    .address(&*format!("fd03:0:0:{link}::{last}/64"));
            }
            builder.build().expect("two devices and four addresses")
        };
        Self {
            left: host([left_0, left_1], 1),
            right: host([right_0, right_1], 2),
            monitors: [first, second],
        }
    }

    fn set_loss(&self, link: usize, loss: f64) {
        for monitor in &self.monitors[link] {
            monitor.set_config(way(loss));
        }
    }

    /// An association of both links from left to right, all addresses confirmed.
    async fn associated(&self, options: SocketOptions) -> (SctpAssociation, SctpAssociation) {
        let builder = self.right.sctp_builder().options(options.clone());
        let listener = builder
            .listen(("0.0.0.0", PORT))
            .await
            .expect("a free port");
        let peers = [address(0, 2), address(1, 2)];
        let builder = self.left.sctp_builder().options(options);
        let (client, server) = tokio::join!(builder.connect(&peers[..]), listener.accept());
        let (client, server) = (client.expect("connected"), server.expect("accepted").0);
        let confirmed = |association: &SctpAssociation| {
            let paths = association.paths();
            paths.len() == 2 && paths.iter().all(|path| path.state == PathState::Active)
        };
        while !confirmed(&client) || !confirmed(&server) {
            sleep(DELAY).await;
        }
        (client, server)
    }
}

fn quick() -> SocketOptions {
    SocketOptions {
        rto: RtoInfo {
            initial: Some(Duration::from_millis(500)),
            min: Some(Duration::from_millis(200)),
            max: Some(Duration::from_secs(1)),
        },
        nodelay: Some(true),
        events: Subscriptions::PEER_ADDRESS | Subscriptions::POTENTIALLY_FAILED,
        ..SocketOptions::default()
    }
}

async fn round(client: &SctpAssociation, server: &SctpAssociation) -> Duration {
    let begun = Instant::now();
    client
        .send("ping", SendOptions::default())
        .await
        .expect("the association lives");
    let message = server.recv().await.expect("it lives").expect("no end");
    assert_eq!(&message.data[..], b"ping");
    begun.elapsed()
}

fn next_change(event: Option<Notification>) -> (IpAddr, PathChange) {
    match event {
        Some(Notification::PeerAddressChange { address, change }) => (address, change),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn both_ends_know_all_addresses_of_both() {
    let links = Links::new();
    let (client, server) = links.associated(quick()).await;
    let sorted = |mut addresses: Vec<SocketAddr>| {
        addresses.sort();
        addresses.iter().map(SocketAddr::ip).collect::<Vec<_>>()
    };
    let both = |last| [address(0, last).ip(), address(1, last).ip()];
    assert_eq!(sorted(client.peer_addrs()), both(2));
    assert_eq!(sorted(server.peer_addrs()), both(1));
    assert_eq!(sorted(client.local_addrs()), both(1));
    assert_eq!(sorted(server.local_addrs()), both(2));
    assert_eq!(client.peer_addr().expect("connected"), address(0, 2));
}

#[tokio::test(start_paused = true)]
async fn path_that_is_cut_and_heals_is_told_and_nothing_waits_longer_than_a_timeout() {
    // RFC 7829 7.1, RFC 6458 6.1.2.
    let links = Links::new();
    let (client, server) = links.associated(quick()).await;
    let first = address(0, 2).ip();
    assert_eq!(round(&client, &server).await, DELAY);
    sleep(Duration::from_secs(1)).await;
    while client.try_event().is_ok() {}
    links.set_loss(0, 1.0);
    let took = round(&client, &server).await;
    assert!(
        took > Duration::from_millis(200) && took < Duration::from_millis(300),
        "{took:?}"
    );
    let mut events = std::pin::pin!(client.events());
    assert_eq!(
        next_change(events.next().await),
        (first, PathChange::PotentiallyFailed)
    );
    assert_eq!(
        round(&client, &server).await,
        DELAY,
        "by the other one at once"
    );
    // RTO 400, 800, 1000, 1000, 1000: the heartbeats that find out.
    assert_eq!(
        next_change(events.next().await),
        (first, PathChange::Unreachable)
    );
    assert_eq!(round(&client, &server).await, DELAY);
    links.set_loss(0, 0.0);
    client
        .request_heartbeat(first)
        .expect("an address of the peer");
    assert_eq!(
        next_change(events.next().await),
        (first, PathChange::Available)
    );
    let before = client.paths()[0].stats.chunks_sent;
    assert_eq!(round(&client, &server).await, DELAY);
    assert_eq!(client.paths()[0].stats.chunks_sent, before + 1, "back");
}

#[tokio::test(start_paused = true)]
async fn primary_path_is_the_users_choice() {
    // RFC 6458 8.1.9, RFC 9260 6.4.
    let links = Links::new();
    let (client, server) = links.associated(quick()).await;
    round(&client, &server).await;
    let second = address(1, 2).ip();
    client.set_primary_path(second).expect("confirmed");
    assert_eq!(client.status().primary.address, second);
    assert_eq!(client.peer_addr().expect("connected").ip(), second);
    assert_eq!(
        client.local_addr().expect("connected").ip(),
        address(1, 1).ip()
    );
    let before: Vec<u64> = client
        .paths()
        .iter()
        .map(|path| path.stats.chunks_sent)
        .collect();
    round(&client, &server).await;
    let after: Vec<u64> = client
        .paths()
        .iter()
        .map(|path| path.stats.chunks_sent)
        .collect();
    assert_eq!(after, [before[0], before[1] + 1]);
    let error = client
        .set_primary_path(address(2, 2).ip())
        .expect_err("nobody's");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn association_is_set_up_by_the_second_address_when_the_first_does_not_answer() {
    // RFC 9260 5.1, 6.4: T1 of 500 ms, then the next address; what is sent then avoids the first.
    let links = Links::new();
    links.set_loss(0, 1.0);
    let listener = links.right.sctp_listener(("0.0.0.0", PORT)).await;
    let listener: SctpListener = listener.expect("a free port");
    let peers = [address(0, 2), address(1, 2)];
    let begun = Instant::now();
    let builder = links.left.sctp_builder().options(quick());
    let (client, server) = tokio::join!(builder.connect(&peers[..]), listener.accept());
    let (client, server) = (client.expect("connected"), server.expect("accepted").0);
    assert_eq!(begun.elapsed(), Duration::from_millis(500) + 4 * DELAY);
    assert_eq!(round(&client, &server).await, DELAY);
    assert_eq!(client.state(), State::Established);
}

#[tokio::test(start_paused = true)]
async fn addresses_that_the_peer_does_not_have_are_forgotten() {
    // As Linux: the peer's INIT ACK says which of the user's list are its own.
    let links = Links::new();
    let listener = links.right.sctp_listener(address(0, 2)).await;
    let listener: SctpListener = listener.expect("a free port");
    let other = links.right.sctp_listener(address(1, 2)).await;
    let _other = other.expect("another port with the same number");
    let peers = [address(0, 2), address(1, 2)];
    let connecting = links.left.sctp_association(&peers[..]);
    let (client, server) = tokio::join!(connecting, listener.accept());
    let (client, server) = (client.expect("connected"), server.expect("accepted").0);
    assert_eq!(client.peer_addrs(), [address(0, 2)]);
    round(&client, &server).await;
}

#[tokio::test(start_paused = true)]
async fn dual_stack_association_survives_on_the_other_family() {
    // RFC 9260 3.3.2.1.5, 5.1.2: by IPv6 on the first link and IPv4 on the second. Both addresses are of global scope: a
    // private one is not told to a peer that is reached by a global one, unique local ones included (as Linux).
    let links = Links::with_networks("198.51");
    let mixed: [SocketAddr; 2] = [
        format!("[fd03::2]:{PORT}").parse().expect("an address"),
        ([198, 51, 1, 2], PORT).into(),
    ];
    let builder = links.right.sctp_builder().options(quick());
    let listener = builder.listen_on(&mixed).expect("a free port");
    let builder = links.left.sctp_builder().options(quick());
    let own: [SocketAddr; 2] = [
        "[fd03::1]:0".parse().expect("an address"),
        "198.51.1.1:0".parse().expect("an address"),
    ];
    let connecting = builder.bind(&own).connect(&mixed[..]);
    let (client, server) = tokio::join!(connecting, listener.accept());
    let (client, server) = (client.expect("connected"), server.expect("accepted").0);
    round(&client, &server).await;
    while server
        .paths()
        .iter()
        .any(|path| path.state != PathState::Active)
    {
        sleep(DELAY).await;
    }
    links.set_loss(0, 1.0);
    let took = round(&client, &server).await;
    assert!(took < Duration::from_millis(300), "{took:?}");
    assert!(server.peer_addrs().iter().any(SocketAddr::is_ipv4));
    assert!(server.peer_addrs().iter().any(SocketAddr::is_ipv6));
}

#[tokio::test(start_paused = true)]
async fn silence_of_both_networks_ends_the_association_as_one_would() {
    // RFC 9260 8.1.
    let links = Links::new();
    let (client, server) = links.associated(quick()).await;
    links.set_loss(0, 1.0);
    links.set_loss(1, 1.0);
    client
        .send("lost", SendOptions::default())
        .await
        .expect("alive");
    let error = timeout(Duration::from_secs(60), client.recv()).await;
    let error = error.expect("given up").expect_err("given up");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn drivers_on_several_threads_serve_one_association() {
    // Four drivers, two of each stack; the primary path changes all the time.
    let links = Links::new();
    let (client, server) = links.associated(quick()).await;
    let send = async {
        for number in 0..2000_u32 {
            let message = number.to_be_bytes().repeat(300);
            let sent = client.send(message, SendOptions::default()).await;
            sent.expect("the association lives");
        }
        client.shutdown().await
    };
    let receive = async {
        for number in 0..2000_u32 {
            let message = server.recv().await.expect("it lives").expect("no end");
            assert!(message.data == number.to_be_bytes().repeat(300), "{number}");
            if number % 50 == 0 {
                let link = (number / 50 % 2) as u8;
                let chosen = client.set_primary_path(address(link, 2).ip());
                chosen.expect("both are confirmed");
            }
        }
        server.recv().await
    };
    let (done, end) = tokio::join!(send, receive);
    done.expect("an orderly end");
    assert_eq!(end.expect("an orderly end"), None);
    let used = client.paths();
    assert!(
        used.iter().all(|path| path.stats.chunks_sent > 100),
        "{used:?}"
    );
}
