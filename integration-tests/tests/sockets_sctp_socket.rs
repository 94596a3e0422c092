//! One-to-many SCTP sockets (RFC 6458 3) of two stacks that are joined by a link, in virtual time; and of one, on threads.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use tidewire::Stack;
use tidewire::net::sctp::{
    AssociationChange, AssociationId, InitMessage, Notification, OneToManyLimits, OptionScope,
    SctpBuilder, SctpSocket, SendOptions, SocketOption, State, Subscriptions,
};
use tidewire_netdev::errno;
use tidewire_netdev::memory::impairment::{ImpairmentConfig, Loss};
use tidewire_netdev::memory::{PairConfig, impaired_pair};
use tokio::time::{Instant, sleep, timeout};

const LEFT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
const RIGHT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
const DELAY: Duration = Duration::from_millis(20);
/// Longer than anything that still moves needs, shorter than any timeout of the protocol.
const SETTLED: Duration = Duration::from_millis(500);

struct Link {
    left: Stack,
    right: Stack,
}

impl Link {
    fn delayed() -> Self {
        Self::impaired(ImpairmentConfig::delay(DELAY))
    }

    fn impaired(impairment: ImpairmentConfig) -> Self {
        let (left, right) = impaired_pair(PairConfig::default(), impairment.clone(), impairment, 7);
        let build = |device, last, seed| {
            let builder = Stack::builder().device(device).seed(seed).unregistered();
            let v4 = format!("10.1.0.{last}/24");
            let v6 = format!("fd00:1::{last}/64");
            builder
                .address(v4.as_str())
                .address(v6.as_str())
                .build()
                .expect("two addresses and a device")
        };
        Self {
            left: build(left, 1, 1),
            right: build(right, 2, 2),
        }
    }

    /// A socket on the left that does not listen.
    async fn client(&self) -> SctpSocket {
        let socket = self.left.sctp_socket((LEFT, 0)).await;
        socket.expect("a free port")
    }

    /// A listening socket on the right, and its address.
    async fn server(&self) -> (SctpSocket, SocketAddr) {
        self.server_of(self.right.sctp_builder()).await
    }

    async fn server_of(&self, builder: SctpBuilder) -> (SctpSocket, SocketAddr) {
        let server = builder.socket((RIGHT, 0)).await.expect("a free port");
        server.listen().expect("nobody else listens");
        let address = server.local_addr().expect("bound");
        (server, address)
    }

    /// An association from left to right: both sockets and both identifiers.
    async fn associated(&self) -> (SctpSocket, AssociationId, SctpSocket, AssociationId) {
        let client = self.client().await;
        let (server, address) = self.server().await;
        let to_server = client.connect(address).await.expect("connected");
        sleep(SETTLED).await;
        let to_client = server.associations()[0];
        (client, to_server, server, to_client)
    }

    /// Whether nothing of any association is left on either side.
    fn is_clean(&self) -> bool {
        let (left, right) = (self.left.sockets(), self.right.sockets());
        let all = left.iter().chain(&right);
        all.filter(|socket| socket.protocol == "sctp")
            .all(|socket| socket.association_state.is_none())
    }
}

fn on(stream: u16) -> SendOptions {
    SendOptions {
        stream,
        ..SendOptions::default()
    }
}

fn plain() -> SendOptions {
    SendOptions::default()
}

fn number(i: u32) -> Bytes {
    Bytes::copy_from_slice(&i.to_be_bytes())
}

fn number_of(message: &[u8]) -> u32 {
    u32::from_be_bytes(message[..4].try_into().expect("a number"))
}

/// Takes every notification that waits.
fn told(socket: &SctpSocket) -> Vec<(AssociationId, Notification)> {
    std::iter::from_fn(|| socket.try_event().ok()).collect()
}

/// The changes of associations among them.
fn changes(socket: &SctpSocket) -> Vec<(AssociationId, AssociationChange)> {
    let changes = told(socket)
        .into_iter()
        .filter_map(|(id, event)| match event {
            Notification::AssociationChange(change) => Some((id, change)),
            _ => None,
        });
    changes.collect()
}

fn errno_of<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.expect_err("refused").raw_os_error()
}

#[tokio::test(start_paused = true)]
async fn sending_sets_an_association_up() {
    // RFC 6458 3.1.4, 7.5. The message travels with the COOKIE ECHO: it is there after three delays.
    let link = Link::delayed();
    let client = link.client().await;
    let (server, address) = link.server().await;
    let started = Instant::now();
    let sent = client.send_to("hello", address, on(3)).await;
    let to_server = sent.expect("queued");
    assert_eq!(started.elapsed(), Duration::ZERO);
    let (to_client, peer, message) = server.recv().await.expect("alive");
    assert_eq!(started.elapsed(), 3 * DELAY);
    assert_eq!(peer, client.local_addr().expect("bound"));
    assert_eq!((message.stream, &message.data[..]), (3, &b"hello"[..]));

    // The second message takes the same association.
    let again = client.send_to("again", address, on(3)).await;
    assert_eq!(again.expect("queued"), to_server);
    assert_eq!(server.recv().await.expect("alive").0, to_client);
    server
        .send(to_client, "answer", plain())
        .await
        .expect("there");
    let (id, peer, _) = client.recv().await.expect("alive");
    assert_eq!((id, peer), (to_server, address));
    for (socket, id) in [(&client, to_server), (&server, to_client)] {
        assert_eq!(socket.associations(), [id]);
        let up = AssociationChange::CommunicationUp {
            outbound_streams: 10,
            inbound_streams: 10,
        };
        assert_eq!(changes(socket), [(id, up)]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_an_association_is_bounded_and_comes_in_order() {
    // RFC 6458 3.1.4: queued until the association is there, in no more than its send buffer.
    let link = Link::delayed();
    let mut options = link.client().await.future_options();
    options.send_buffer = Some(10_000);
    let builder = link.left.sctp_builder().options(options);
    let client = builder.socket((LEFT, 0)).await.expect("a free port");
    let (server, address) = link.server().await;
    let mut sent = 0;
    let full = loop {
        let mut message = vec![0; 1000];
        message[..4].copy_from_slice(&number(sent));
        match client.try_send_to(message, address, plain()) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100, "nothing holds the sender back");
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    assert!(sent >= 5, "{sent} messages in 10,000 octets");
    // One that waits goes on as soon as there is room.
    let last = client.send_to(number(sent), address, plain());
    let (last, ()) = tokio::join!(last, async {
        for i in 0..=sent {
            let (_, _, message) = server.recv().await.expect("alive");
            assert_eq!(number_of(&message.data), i);
        }
    });
    last.expect("there was room in the end");
}

#[tokio::test(start_paused = true)]
async fn two_hundred_peers_are_served_at_once() {
    let link = Link::delayed();
    let (server, address) = link.server().await;
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(link.client().await);
    }
    let echo = async {
        loop {
            let (id, _, message) = server.recv().await.expect("alive");
            let options = on(message.stream);
            server.send(id, message.data, options).await.expect("there");
        }
    };
    let ask = async {
        let asking = clients.iter().enumerate().map(|(i, client)| async move {
            for round in 0..20_u32 {
                let question = number(i as u32 * 1000 + round);
                let sent = client.send_to(question.clone(), address, on(round as u16 % 10));
                let id = sent.await.expect("queued");
                let (from, _, answer) = client.recv().await.expect("alive");
                assert_eq!((from, answer.data), (id, question));
            }
        });
        futures::future::join_all(asking).await;
    };
    tokio::select! {
        biased;
        () = echo => unreachable!("it goes on"),
        () = ask => {}
    }
    assert_eq!(server.associations().len(), 200);
    assert_eq!(server.stats().associations, 200);
    let ups = changes(&server);
    assert_eq!(ups.len(), 200);
    drop(clients);
    sleep(SETTLED).await;
    assert_eq!(server.associations(), []);
    assert_eq!(changes(&server).len(), 200, "each has shut down");
    assert!(link.is_clean());
}

#[tokio::test(start_paused = true)]
async fn associations_that_have_messages_are_served_in_turn() {
    let link = Link::delayed();
    let (server, address) = link.server().await;
    let (busy, quiet) = (link.client().await, link.client().await);
    for i in 0..500 {
        busy.send_to(number(i), address, plain())
            .await
            .expect("queued");
    }
    sleep(SETTLED).await;
    for i in 0..3 {
        quiet
            .send_to(number(i), address, plain())
            .await
            .expect("queued");
    }
    sleep(SETTLED).await;
    let busy = busy.local_addr().expect("bound");
    let mut next: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    for turn in 0..503 {
        let (_, peer, message) = server.try_recv().expect("503 messages have come");
        let count = next.entry(peer).or_default();
        assert_eq!(number_of(&message.data), *count, "in order");
        *count += 1;
        if turn < 6 {
            assert_eq!(peer == busy, turn % 2 == 0, "turn {turn}");
        }
    }
    let error = server.try_recv().expect_err("all is read");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_association_holds_up_no_other() {
    // RFC 6458 3.3: each association has buffer space of its own.
    let link = Link::delayed();
    let (lazy, to_lazy) = link.server().await;
    let (reader, to_reader) = link.server().await;
    let builder = link.left.sctp_builder().nodelay(true);
    let client = builder.socket((LEFT, 0)).await.expect("a free port");
    let stalled = client.connect(to_lazy).await.expect("connected");
    let body = Bytes::from(vec![7; 60_000]);
    let fill = async {
        loop {
            let sent = client.send(stalled, body.clone(), plain());
            sent.await.expect("it waits rather than fails");
        }
    };
    timeout(Duration::from_secs(20), fill)
        .await
        .expect_err("the peer does not read");
    let error = client.try_send(stalled, body.clone(), plain());
    assert_eq!(error.expect_err("full").kind(), ErrorKind::WouldBlock);
    let writable = timeout(SETTLED, client.writable(stalled)).await;
    assert!(writable.is_err(), "it has no room");

    let started = Instant::now();
    for i in 0..100 {
        let sent = client.send_to(number(i), to_reader, plain()).await;
        let id = sent.expect("this one reads");
        client.writable(id).await.expect("there");
        let (_, _, message) = reader.recv().await.expect("alive");
        assert_eq!(number_of(&message.data), i);
    }
    assert!(started.elapsed() < 200 * DELAY);

    // The reader of the other side lets it go on.
    let (sent, received) = tokio::join!(client.send(stalled, "last", plain()), async {
        loop {
            let (_, _, message) = lazy.recv().await.expect("alive");
            if &message.data[..] == b"last" {
                break message.data;
            }
        }
    });
    sent.expect("there is room again");
    assert_eq!(&received[..], b"last");
}

#[tokio::test(start_paused = true)]
async fn peeling_off_under_traffic_loses_nothing_and_keeps_the_order() {
    // RFC 6458 9.2.
    let link = Link::impaired(ImpairmentConfig {
        loss: Loss::Uniform(0.01),
        ..ImpairmentConfig::delay(Duration::from_millis(5))
    });
    let (server, address) = link.server().await;
    let (client, other) = (link.client().await, link.client().await);
    let peer = client.local_addr().expect("bound");
    const COUNT: u32 = 3000;
    let send = async {
        for i in 0..COUNT {
            client
                .send_to(number(i), address, plain())
                .await
                .expect("queued");
            if i % 100 == 0 {
                other
                    .send_to(number(i), address, plain())
                    .await
                    .expect("queued");
                tokio::task::yield_now().await;
            }
        }
    };
    let receive = async {
        let mut next = 0;
        let mut from_other = 0;
        let peeled = loop {
            let (id, from, message) = server.recv().await.expect("alive");
            if from != peer {
                from_other += 1;
                continue;
            }
            assert_eq!(number_of(&message.data), next);
            next += 1;
            if next == COUNT / 3 {
                break server.peel_off(id).expect("it is there");
            }
        };
        assert_eq!(peeled.peer_addr().expect("connected"), peer);
        while next < COUNT {
            let message = peeled.recv().await.expect("alive").expect("not shut down");
            assert_eq!(number_of(&message.data), next);
            next += 1;
        }
        while from_other < COUNT / 100 {
            let (_, from, _) = server.recv().await.expect("alive");
            assert_ne!(from, peer, "that one has left");
            from_other += 1;
        }
        peeled
    };
    let ((), peeled) = tokio::join!(send, receive);
    assert_eq!(server.associations().len(), 1);
    // Its notifications have gone along.
    let up = peeled.try_event().expect("it was not told yet");
    assert!(matches!(
        up,
        Some(Notification::AssociationChange(
            AssociationChange::CommunicationUp { .. }
        ))
    ));
    assert_eq!(changes(&server).len(), 1, "the other's");

    // Linux: its peer's address is nobody's here any more; and the socket's end is not its own.
    assert_eq!(
        errno_of(server.send_to("x", peer, plain()).await),
        Some(errno::EADDRNOTAVAIL)
    );
    assert_eq!(
        errno_of(server.connect(peer).await),
        Some(errno::EADDRNOTAVAIL)
    );
    drop(server);
    peeled
        .send("still here", plain())
        .await
        .expect("it lives on");
    let (_, _, message) = client.recv().await.expect("alive");
    assert_eq!(&message.data[..], b"still here");
}

#[tokio::test(start_paused = true)]
async fn peeling_off_wakes_who_waits_to_send() {
    let link = Link::delayed();
    let (client, id, _server, _) = link.associated().await;
    let fill = async {
        let sent = loop {
            let sent = client.send(id, vec![0; 60_000], plain()).await;
            if sent.is_err() {
                break sent;
            }
        };
        errno_of(sent)
    };
    let peel = async {
        sleep(Duration::from_secs(20)).await;
        client.peel_off(id).expect("it is there")
    };
    let (error, _peeled) = tokio::join!(fill, peel);
    assert_eq!(error, Some(errno::EPIPE));
}

#[tokio::test(start_paused = true)]
async fn an_idle_association_closes_itself() {
    // RFC 6458 8.1.8.
    let link = Link::delayed();
    let (server, address) = link.server().await;
    let idle = Duration::from_secs(5);
    let autoclose = SocketOption::Autoclose(Some(idle));
    server
        .set_option(OptionScope::Future, autoclose)
        .expect("in range");
    let client = link.client().await;
    assert_eq!(client.future_options().autoclose, None, "off by default");
    client
        .send_to("one", address, plain())
        .await
        .expect("queued");
    let (id, _, _) = server.recv().await.expect("alive");
    let started = Instant::now();
    sleep(Duration::from_secs(3)).await;
    client
        .send_to("two", address, plain())
        .await
        .expect("queued");
    let last = loop {
        match server.event().await.expect("alive").1 {
            Notification::AssociationChange(change) => {
                if change == AssociationChange::ShutdownComplete {
                    break Instant::now();
                }
            }
            other => assert!(!matches!(other, Notification::SendFailed(_))),
        }
    };
    // The second message began the time anew; the shutdown takes its round trips.
    let elapsed = last - started;
    assert!(elapsed > Duration::from_secs(8) && elapsed < Duration::from_millis(8200));
    // Its last message can be read although it is over, and then nothing is left of it.
    assert_eq!(errno_of(server.status(id)), Some(errno::EINVAL));
    let (from, _, message) = server.recv().await.expect("alive");
    assert_eq!((from, &message.data[..]), (id, &b"two"[..]));
    assert_eq!(server.stats().associations, 0);
    sleep(SETTLED).await;
    assert!(link.is_clean());
}

#[tokio::test(start_paused = true)]
async fn errors_are_linuxs() {
    let link = Link::delayed();
    let (client, id, server, _) = link.associated().await;
    let address = server.local_addr().expect("bound");

    // What there is already.
    assert_eq!(
        errno_of(client.connect(address).await),
        Some(errno::EISCONN)
    );
    let silent = SocketAddr::new(RIGHT, 9);
    let opening = client.start_connect(&[silent]).expect("begun");
    assert_eq!(
        client.status(opening).expect("there").state,
        State::CookieWait
    );
    assert_eq!(
        errno_of(client.connect(silent).await),
        Some(errno::EALREADY)
    );

    // Messages and peers that cannot be.
    for (message, options) in [(Bytes::new(), on(0)), (Bytes::from("x"), on(10))] {
        let sent = client.send(id, message.clone(), options).await;
        assert_eq!(errno_of(sent), Some(errno::EINVAL));
        let sent = client.send_to(message, (RIGHT, 10), options).await;
        assert_eq!(errno_of(sent), Some(errno::EINVAL));
    }
    let large = Bytes::from(vec![0; (16 << 20) + 1]);
    let sent = client.send_to(large, (RIGHT, 10), plain()).await;
    assert_eq!(errno_of(sent), Some(errno::EMSGSIZE));
    assert_eq!(client.associations(), [id, opening], "nothing was set up");
    let sent = client.send_to("x", "[fd00:1::2]:10", plain()).await;
    assert_eq!(errno_of(sent), Some(errno::EINVAL), "an IPv4 socket");
    let sent = client.send_to("x", "192.0.2.1:10", plain()).await;
    assert_eq!(errno_of(sent), Some(errno::ENETUNREACH));
    let sent = client.send_to("x", (RIGHT, 0), plain()).await;
    assert_eq!(errno_of(sent), Some(errno::EINVAL));

    // While one ends, and after it.
    client
        .send(id, vec![0; 100_000], plain())
        .await
        .expect("there");
    client.start_shutdown(id).expect("there");
    let sent = client.send(id, "x", plain()).await;
    assert_eq!(errno_of(sent), Some(errno::ESHUTDOWN));
    sleep(Duration::from_secs(5)).await;
    let sent = client.send(id, "x", plain()).await;
    assert_eq!(errno_of(sent), Some(errno::EPIPE));
    assert_eq!(errno_of(client.start_shutdown(id)), Some(errno::EPIPE));
    assert_eq!(errno_of(client.abort(id, "")), Some(errno::EPIPE));
    assert_eq!(errno_of(client.status(id)), Some(errno::EINVAL));
    assert_eq!(errno_of(client.options(id)), Some(errno::EINVAL));
    assert_eq!(errno_of(client.peel_off(id)), Some(errno::EINVAL));
    let set = client.set_option(id, SocketOption::Nodelay(true));
    assert_eq!(errno_of(set), Some(errno::EINVAL));
}

#[tokio::test(start_paused = true)]
async fn a_failed_association_fails_nothing_but_itself() {
    // As Linux: the errors of a one-to-many socket's associations are told by notifications.
    let link = Link::delayed();
    let (client, id, server, to_client) = link.associated().await;
    told(&client);
    told(&server);
    // Nobody listens there: the message comes back.
    let context = SendOptions {
        context: 42,
        ..plain()
    };
    let refused = client.send_to("lost", (RIGHT, 9), context).await;
    let refused = refused.expect("queued");
    server.abort(to_client, "for a test").expect("there");
    sleep(SETTLED).await;
    assert_eq!(
        client.try_recv().expect_err("nothing").kind(),
        ErrorKind::WouldBlock
    );
    let mut failed = None;
    let mut ends = BTreeMap::new();
    for (from, event) in told(&client) {
        match event {
            Notification::SendFailed(message) => failed = Some((from, message)),
            Notification::AssociationChange(change) => {
                ends.insert(from, change);
            }
            other => panic!("{other:?}"),
        }
    }
    let (from, message) = failed.expect("the message comes back");
    assert_eq!((from, &message.data[..]), (refused, &b"lost"[..]));
    assert_eq!(message.options.context, 42);
    assert!(matches!(
        ends[&refused],
        AssociationChange::CannotStart { .. }
    ));
    assert!(matches!(
        ends[&id],
        AssociationChange::CommunicationLost { .. }
    ));
    assert!(matches!(
        changes(&server)[..],
        [(ended, AssociationChange::CommunicationLost { error: None, .. })] if ended == to_client
    ));
    // Explicit attempts say it themselves.
    let error = client
        .connect((RIGHT, 9))
        .await
        .expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    // And there can be another one, which is another one.
    let address = server.local_addr().expect("bound");
    let again = client.connect(address).await.expect("connected");
    assert!(again != id && again > refused);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_delivers_what_was_sent() {
    let link = Link::delayed();
    let (client, id, server, to_client) = link.associated().await;
    for i in 0..100 {
        client.send(id, number(i), plain()).await.expect("there");
    }
    let (ended, ()) = tokio::join!(client.shutdown(id), async {
        for i in 0..100 {
            let (from, _, message) = server.recv().await.expect("alive");
            assert_eq!((from, number_of(&message.data)), (to_client, i));
        }
    });
    ended.expect("an orderly end");
    sleep(SETTLED).await;
    let last = changes(&client).pop();
    assert_eq!(last, Some((id, AssociationChange::ShutdownComplete)));
    let events = told(&server);
    let wanted = [
        Notification::ShutdownEvent,
        Notification::AssociationChange(AssociationChange::ShutdownComplete),
    ];
    for event in wanted {
        assert!(events.contains(&(to_client, event)), "{events:?}");
    }
    assert_eq!(
        (client.stats().associations, server.stats().associations),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn peers_are_refused_unless_the_socket_listens() {
    // RFC 6458 3.1.3.
    let link = Link::delayed();
    let client = link.client().await;
    let server = link
        .right
        .sctp_socket((RIGHT, 0))
        .await
        .expect("a free port");
    let address = server.local_addr().expect("bound");
    let refused = client
        .connect(address)
        .await
        .expect_err("it does not listen");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    server.listen().expect("nobody else does");
    assert!(server.is_listening());
    let id = client.connect(address).await.expect("it listens");
    server.stop_listening().expect("it can");
    let other = link.client().await;
    let refused = other.connect(address).await.expect_err("no longer");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    client
        .send(id, "those that are there stay", plain())
        .await
        .expect("there");
    server.recv().await.expect("alive");
    server.listen().expect("again");
    other.connect(address).await.expect("it listens");
    // Nobody else may, meanwhile.
    let taken = link.right.sctp_listener(address).await.expect_err("taken");
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
}

#[tokio::test(start_paused = true)]
async fn both_sides_may_begin_at_once() {
    // RFC 9260 5.2.1: one association comes of two INITs, listening or not.
    for listening in [false, true] {
        let link = Link::delayed();
        let left = link.left.sctp_socket((LEFT, 5000)).await.expect("free");
        let right = link.right.sctp_socket((RIGHT, 5000)).await.expect("free");
        if listening {
            left.listen().expect("free");
            right.listen().expect("free");
        }
        let to_right = left.send_to("from left", (RIGHT, 5000), plain());
        let to_left = right.send_to("from right", (LEFT, 5000), plain());
        let (to_right, to_left) = tokio::join!(to_right, to_left);
        let (to_right, to_left) = (to_right.expect("queued"), to_left.expect("queued"));
        let (from, _, message) = left.recv().await.expect("alive");
        assert_eq!((from, &message.data[..]), (to_right, &b"from right"[..]));
        let (from, _, message) = right.recv().await.expect("alive");
        assert_eq!((from, &message.data[..]), (to_left, &b"from left"[..]));
        assert_eq!(left.associations(), [to_right]);
        assert_eq!(right.associations(), [to_left]);
        assert_eq!((changes(&left).len(), changes(&right).len()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_futures_take_nothing_with_them() {
    let link = Link::delayed();
    let (client, id, server, to_client) = link.associated().await;
    told(&server);
    // A receive that is given up again and again until there is something.
    client.send(id, "one", plain()).await.expect("there");
    let message = loop {
        let step = Duration::from_millis(1);
        if let Ok(received) = timeout(step, server.recv()).await {
            break received.expect("alive").2;
        }
    };
    assert_eq!(&message.data[..], b"one");
    // A notification.
    server.start_shutdown(to_client).expect("there");
    let event = loop {
        if let Ok(event) = timeout(Duration::from_millis(1), server.event()).await {
            break event.expect("alive").1;
        }
    };
    assert_eq!(
        event,
        Notification::AssociationChange(AssociationChange::ShutdownComplete)
    );
    // A connect that is given up goes on.
    sleep(SETTLED).await;
    let address = server.local_addr().expect("bound");
    assert!(timeout(DELAY, client.connect(address)).await.is_err());
    sleep(SETTLED).await;
    let again = client.associations()[0];
    assert_eq!(
        client.status(again).expect("there").state,
        State::Established
    );
    // A send that waits for room leaves nothing behind.
    let fill = async {
        loop {
            let sent = client.send(again, vec![1; 60_000], plain()).await;
            sent.expect("there");
        }
    };
    timeout(Duration::from_secs(20), fill)
        .await
        .expect_err("nobody reads");
    let queued = client
        .association_stats(again)
        .expect("there")
        .messages_sent;
    timeout(SETTLED, client.send(again, "never", plain()))
        .await
        .expect_err("there is no room");
    let received = async {
        for _ in 0..queued {
            let (_, _, message) = server.recv().await.expect("alive");
            assert_eq!(message.data.len(), 60_000);
        }
    };
    received.await;
    sleep(SETTLED).await;
    let error = server.try_recv().expect_err("nothing is left");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_socket_delivers_what_was_sent_and_unread_messages_abort() {
    // Linux: close() shuts every association down, or aborts it.
    let link = Link::delayed();
    let (server, address) = link.server().await;
    let (client, reader) = (link.client().await, link.client().await);
    let id = client.connect(address).await.expect("connected");
    reader.connect(address).await.expect("connected");
    sleep(SETTLED).await;
    let to_reader = server.associations()[1];
    client.send(id, "never read", plain()).await.expect("there");
    server
        .send(to_reader, vec![9; 200_000], plain())
        .await
        .expect("there");
    server.readable().await.expect("alive");
    drop(server);
    let (_, _, message) = reader.recv().await.expect("alive");
    assert_eq!(message.data.len(), 200_000);
    sleep(SETTLED).await;
    let ends = [changes(&client), changes(&reader)].map(|mut changes| changes.pop());
    assert!(
        matches!(
            &ends,
            [
                Some((_, AssociationChange::CommunicationLost { .. })),
                Some((_, AssociationChange::ShutdownComplete)),
            ]
        ),
        "{ends:?}"
    );
    assert!(link.is_clean());
    // The port is free again.
    link.right.sctp_listener(address).await.expect("free");

    // SO_LINGER of zero.
    let builder = link.right.sctp_builder().linger(Some(Duration::ZERO));
    let (server, address) = link.server_of(builder).await;
    reader.connect(address).await.expect("connected");
    drop(server);
    sleep(SETTLED).await;
    let last = changes(&reader).pop().expect("an end");
    assert!(matches!(
        last.1,
        AssociationChange::CommunicationLost { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn a_socket_takes_on_no_more_than_its_limits() {
    let link = Link::delayed();
    let limits = OneToManyLimits {
        associations: 2,
        ..OneToManyLimits::default()
    };
    let (server, address) = link
        .server_of(link.right.sctp_builder().limits(limits))
        .await;
    let clients = [
        link.client().await,
        link.client().await,
        link.client().await,
    ];
    let first = clients[0].connect(address).await.expect("room");
    clients[1].connect(address).await.expect("room");
    let refused = clients[2].connect(address).await.expect_err("full");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let sent = server.send_to("x", (LEFT, 9), plain()).await;
    assert_eq!(errno_of(sent), Some(errno::ENOBUFS));
    assert_eq!(server.stats().refused, 1);
    assert_eq!(server.endpoint_stats().inits_refused, 1);
    // One that has ended counts while its messages are unread, but not for its notifications.
    clients[0]
        .send(first, "unread", plain())
        .await
        .expect("there");
    clients[0].shutdown(first).await.expect("an orderly end");
    let refused = clients[2].connect(address).await.expect_err("full");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    server.recv().await.expect("alive");
    clients[2].connect(address).await.expect("room");

    // Octets.
    let limits = OneToManyLimits {
        memory: 10_000,
        ..OneToManyLimits::default()
    };
    let (server, address) = link
        .server_of(link.right.sctp_builder().limits(limits))
        .await;
    clients[0]
        .send_to(vec![0; 20_000], address, plain())
        .await
        .expect("queued");
    server.readable().await.expect("alive");
    let refused = clients[1].connect(address).await.expect_err("full");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(server.stats().memory >= 20_000);
    server.recv().await.expect("alive");
    assert_eq!(server.stats().memory, 0);
    clients[1].connect(address).await.expect("room");
}

#[tokio::test(start_paused = true)]
async fn options_are_set_for_one_for_all_and_for_those_to_come() {
    // RFC 6458 7.2.
    let link = Link::delayed();
    let (client, first, server, _) = link.associated().await;
    let (_other, address) = link.server().await;
    let second = client.connect(address).await.expect("connected");
    let nodelay = |id| client.options(id).expect("there").nodelay;
    let future = || client.future_options().nodelay;
    let set = |scope: OptionScope, value| client.set_option(scope, SocketOption::Nodelay(value));
    let before = nodelay(second);
    set(first.into(), true).expect("there");
    assert_eq!(
        (nodelay(first), nodelay(second), future()),
        (Some(true), before, None)
    );
    set(OptionScope::Current, true).expect("there");
    assert_eq!(
        (nodelay(first), nodelay(second), future()),
        (Some(true), Some(true), None)
    );
    set(OptionScope::Future, false).expect("there");
    assert_eq!(
        (nodelay(first), nodelay(second), future()),
        (Some(true), Some(true), Some(false))
    );
    set(OptionScope::All, true).expect("there");
    assert_eq!(future(), Some(true));

    // What does not make sense changes nothing.
    let rto = |min| tidewire::net::sctp::RtoInfo {
        min: Some(Duration::from_secs(min)),
        ..Default::default()
    };
    for scope in [first.into(), OptionScope::Future, OptionScope::All] {
        let set = client.set_option(scope, SocketOption::Rto(rto(1000)));
        assert_eq!(errno_of(set), Some(errno::EINVAL), "{scope:?}");
    }
    assert_eq!(client.future_options().rto.min, None);
    let init = SocketOption::Init(InitMessage {
        outbound_streams: Some(7),
        ..InitMessage::default()
    });
    assert_eq!(
        errno_of(client.set_option(first, init)),
        Some(errno::EINVAL)
    );
    client
        .set_option(OptionScope::All, init)
        .expect("for those to come");

    // Those to come have them, whoever begins.
    let none = SocketOption::Events(Subscriptions::NONE);
    server
        .set_option(OptionScope::Future, none)
        .expect("in range");
    let other = link.client().await;
    other
        .set_option(OptionScope::Future, init)
        .expect("in range");
    told(&server);
    let address = server.local_addr().expect("bound");
    let id = other.connect(address).await.expect("connected");
    assert_eq!(other.status(id).expect("there").outbound_streams, 7);
    sleep(SETTLED).await;
    assert_eq!(told(&server), [], "it has not subscribed");
    assert_eq!(server.associations().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_stack() {
    let link = Link::delayed();
    let idle = link.client().await;
    let (client, id, _server, _) = link.associated().await;
    let stop = async {
        sleep(Duration::from_secs(1)).await;
        link.left.shutdown().await;
    };
    let wait = async {
        tokio::join!(
            idle.recv(),
            idle.event(),
            client.recv(),
            client.shutdown(id)
        )
    };
    let (waited, ()) = tokio::join!(timeout(Duration::from_secs(400), wait), stop);
    let (a, b, c, _) = waited.expect("nobody hangs");
    for error in [a.map(drop), b.map(drop), c.map(drop)] {
        assert_eq!(errno_of(error), Some(errno::ENETDOWN));
    }
}

#[tokio::test(start_paused = true)]
async fn polling_keeps_one_waker_for_the_socket_and_one_for_each_association() {
    let link = Link::delayed();
    let (client, id, server, to_client) = link.associated().await;
    let message = Bytes::from("polled");
    let sent = poll_fn(|cx| client.poll_send(cx, id, &message, plain()));
    sent.await.expect("there");
    poll_fn(|cx| server.poll_recv_ready(cx))
        .await
        .expect("alive");
    let (from, _, received) = poll_fn(|cx| server.poll_recv(cx)).await.expect("alive");
    assert_eq!((from, received.data), (to_client, message.clone()));
    let pending = poll_fn(|cx| Poll::Ready(server.poll_recv(cx).is_pending()));
    assert!(pending.await);
    let address = server.local_addr().expect("bound");
    let sent = poll_fn(|cx| client.poll_send_to(cx, &message, address, plain()));
    assert_eq!(sent.await.expect("there"), id);
    poll_fn(|cx| client.poll_send_ready(cx, id))
        .await
        .expect("there");
    let (_, _, received) = poll_fn(|cx| server.poll_recv(cx)).await.expect("alive");
    assert_eq!(received.data, message);
}

#[tokio::test(start_paused = true)]
async fn an_ipv6_socket_has_peers_of_both_versions() {
    let link = Link::delayed();
    let server = link.right.sctp_socket("[::]:5000").await.expect("free");
    server.listen().expect("free");
    let (v4, v6) = (
        link.client().await,
        link.left.sctp_socket("[::]:0").await.expect("free"),
    );
    v4.send_to("4", "10.1.0.2:5000", plain())
        .await
        .expect("queued");
    v6.send_to("6", "[fd00:1::2]:5000", plain())
        .await
        .expect("queued");
    for _ in 0..2 {
        let (id, peer, message) = server.recv().await.expect("alive");
        assert!(peer.is_ipv6(), "{peer} as an IPv6 socket shows it");
        assert_eq!(
            peer.ip().to_canonical().is_ipv4(),
            &message.data[..] == b"4"
        );
        // By that address it is found again.
        assert_eq!(
            server.send_to("back", peer, plain()).await.expect("there"),
            id
        );
    }
    assert_eq!(&v4.recv().await.expect("alive").2.data[..], b"back");
    assert_eq!(&v6.recv().await.expect("alive").2.data[..], b"back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tasks_of_several_threads_share_a_socket_and_lose_nothing() {
    const CLIENTS: u32 = 32;
    const MESSAGES: u32 = 200;
    let stack = Stack::builder().unregistered().build().expect("a loopback");
    let server = stack.sctp_socket("127.0.0.1:0").await.expect("free");
    server.listen().expect("free");
    let server = Arc::new(server);
    let address = server.local_addr().expect("bound");
    let (tell, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut receivers = Vec::new();
    for receiver in 0..8 {
        let (server, tell) = (Arc::clone(&server), tell.clone());
        receivers.push(tokio::spawn(async move {
            for count in 0.. {
                let (id, peer, message) = server.recv().await.expect("alive");
                tell.send((peer, number_of(&message.data))).expect("heard");
                // Some leave in the middle of it; another may have been faster.
                if receiver == 0
                    && count % 16 == 0
                    && let Ok(association) = server.peel_off(id)
                {
                    let tell = tell.clone();
                    tokio::spawn(async move {
                        while let Ok(Some(message)) = association.recv().await {
                            tell.send((peer, number_of(&message.data))).expect("heard");
                        }
                    });
                }
            }
        }));
    }
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let socket = stack.sctp_socket("127.0.0.1:0").await.expect("free");
        clients.push(tokio::spawn(async move {
            for i in 0..MESSAGES {
                let sent = socket.send_to(number(i), address, plain()).await;
                sent.expect("queued");
            }
            socket
        }));
    }
    let mut seen: BTreeMap<SocketAddr, Vec<u32>> = BTreeMap::new();
    let hear = async {
        for _ in 0..CLIENTS * MESSAGES {
            let (peer, number) = heard.recv().await.expect("receivers are there");
            seen.entry(peer).or_default().push(number);
        }
    };
    timeout(Duration::from_secs(120), hear)
        .await
        .expect("every message arrives");
    assert_eq!(seen.len(), CLIENTS as usize);
    for numbers in seen.values_mut() {
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..MESSAGES), "{numbers:?}");
    }
    for client in clients {
        client.await.expect("no panic");
    }
    for receiver in receivers {
        receiver.abort();
    }
}
