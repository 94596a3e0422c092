//! Messages of every size, on few streams and many, with and without order, there and back.

use bytes::Bytes;
use tidewire::net::sctp::{SctpAssociation, SctpListener};

use super::{PORT, connect, listen, on, receive};
use crate::bodies::body;
use crate::kernel::Family;
use crate::peers::Meeting;

/// What a chunk, a packet, a peer's read takes, and one more than that.
const SIZES: [usize; 15] = [
    1,
    2,
    3,
    4,
    23,
    24,
    1000,
    1452,
    1453,
    1500,
    4096,
    65_535,
    65_536,
    200_000,
    1 << 20,
];

/// A server of theirs sends back what we send: all of it, each message as it was, in order where that was asked for.
pub async fn echo_of_every_size(meeting: &Meeting, family: Family) -> usize {
    let mut cases = 0;
    for streams in [1, 10, 100] {
        for unordered in [false, true] {
            let flags = format!("--once --streams {streams}");
            let at = Meeting::theirs(family, PORT);
            let server = meeting.server("echo-server", at, &flags).await;
            let association = connect(meeting, family, streams).await;
            assert_eq!(association.status().outbound_streams, streams);
            // Each stream has one at least, and all sizes come.
            let sizes = SIZES.iter().chain(&[300; 100]);
            let sent: Vec<(u16, Bytes)> = sizes
                .enumerate()
                .map(|(i, &size)| (i as u16 % streams, body(i as u64, size).into()))
                .collect();
            let (_, back) = tokio::join!(
                send_all(&association, &sent, unordered),
                receive_all(&association, sent.len(), unordered)
            );
            assert_same(&sent, back, unordered);
            association.shutdown().await.expect("in order");
            let octets = sent.iter().map(|(_, data)| data.len() as u64).sum();
            let all = (sent.len() as u64, octets);
            server.finish().await.assert_well(all, all);
            cases += 1;
        }
    }
    cases
}

async fn send_all(association: &SctpAssociation, messages: &[(u16, Bytes)], unordered: bool) {
    for (stream, data) in messages {
        let sent = association.send(data.clone(), on(*stream, unordered)).await;
        sent.expect("an association that lives");
    }
}

async fn receive_all(
    association: &SctpAssociation,
    count: usize,
    unordered: bool,
) -> Vec<(u16, Bytes)> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let message = receive(association).await.expect("alive");
        let message = message.unwrap_or_else(|| panic!("only {} messages", messages.len()));
        assert_eq!(message.unordered, unordered);
        assert_eq!(message.ppid, on(0, false).ppid);
        messages.push((message.stream, message.data));
    }
    messages
}

/// The same messages, in the same order on each stream unless that was left to chance.
fn assert_same(sent: &[(u16, Bytes)], mut back: Vec<(u16, Bytes)>, unordered: bool) {
    let mut sent = sent.to_vec();
    if unordered {
        sent.sort();
        back.sort();
    } else {
        // Stable: what was sent on a stream stays in order.
        sent.sort_by_key(|(stream, _)| *stream);
        back.sort_by_key(|(stream, _)| *stream);
    }
    let wrong = sent.iter().zip(&back).position(|(sent, back)| sent != back);
    assert_eq!(wrong, None, "the first message that differs");
}

/// A client of theirs has a server of ours send back what it sends.
pub async fn echo_by_us(meeting: &Meeting, family: Family) -> usize {
    /// Streams, size, count, messages under way, and whether order matters.
    const CASES: [(u64, u64, u64, u64, &str); 7] = [
        (1, 1, 200, 1, ""),
        (10, 1000, 500, 20, ""),
        (100, 100, 1000, 100, ""),
        (3, 1 << 20, 6, 2, ""),
        (2, 65_536, 20, 3, "--nodelay"),
        (10, 5000, 200, 10, "--unordered"),
        (1, 100_000, 20, 4, "--unordered"),
    ];
    let listener = listen(meeting, family);
    for (streams, size, count, window, more) in CASES {
        let flags =
            format!("--streams {streams} --size {size} --count {count} --window {window} {more}");
        let client = meeting.client("echo-client", Meeting::ours(family, PORT), &flags);
        let (echoed, ended) = tokio::join!(echo(&listener), client.finish());
        assert_eq!(echoed, (count, count * size), "{ended:#?}");
        ended.assert_well(echoed, echoed);
        assert_eq!(ended.account()["echoed"], count);
    }
    CASES.len()
}

/// Accepts an association and sends back its messages until the peer shuts down: how many, and of how many octets.
async fn echo(listener: &SctpListener) -> (u64, u64) {
    let (association, _) = listener.accept().await.expect("a client");
    let echoed = send_back(&association, u64::MAX).await;
    association.closed().await.expect("shut down in order");
    echoed
}

/// Sends back messages until the peer shuts down, but at most so many.
pub(super) async fn send_back(association: &SctpAssociation, most: u64) -> (u64, u64) {
    let (mut messages, mut octets) = (0, 0);
    while messages < most
        && let Some(message) = receive(association).await.expect("no failure")
    {
        messages += 1;
        octets += message.data.len() as u64;
        let mut options = on(message.stream, message.unordered);
        options.ppid = message.ppid;
        let sent = association.send(message.data, options).await;
        sent.expect("an association that lives");
    }
    (messages, octets)
}
