//! As many messages as fit, one way at a time; both ends check every octet.

use tidewire::net::sctp::SctpAssociation;

use super::{PORT, connect, listen, on, receive};
use crate::kernel::{Family, Role};
use crate::peers::{Implementation, Meeting, payload};

/// A load of messages.
#[derive(Clone, Copy)]
struct Load {
    streams: u16,
    size: usize,
    count: u32,
    unordered: bool,
}

impl Load {
    const fn total(self) -> (u64, u64) {
        (self.count as u64, self.count as u64 * self.size as u64)
    }

    fn flags(self) -> String {
        let Self {
            streams,
            size,
            count,
            unordered,
        } = self;
        let more = if unordered { "--unordered" } else { "" };
        format!("--streams {streams} --size {size} --count {count} {more}")
    }
}

/// Eight megabytes each way, whoever connects; half as much through the machine, whose processor is emulated.
pub async fn bulk_both_ways(meeting: &Meeting, family: Family) -> usize {
    let count = match meeting.implementation() {
        Implementation::Usrsctp => 125,
        Implementation::Linux => 60,
    };
    let load = Load {
        streams: 4,
        size: 65_536,
        count,
        unordered: false,
    };
    each_way(meeting, family, load).await
}

/// Loads of tiny, small and huge messages, with and without order.
pub async fn messages_of_any_size(meeting: &Meeting, family: Family) -> usize {
    let mut cases = 0;
    for (streams, size, count) in [(100, 32, 2000), (10, 1000, 1000), (1, 1 << 20, 4)] {
        for unordered in [false, true] {
            let load = Load {
                streams,
                size,
                count,
                unordered,
            };
            cases += each_way(meeting, family, load).await;
        }
    }
    cases
}

async fn each_way(meeting: &Meeting, family: Family, load: Load) -> usize {
    for role in Role::ALL {
        to_them(meeting, family, role, load).await;
        from_them(meeting, family, role, load).await;
    }
    2 * Role::ALL.len()
}

async fn to_them(meeting: &Meeting, family: Family, role: Role, load: Load) {
    let (association, peer) = match role {
        Role::KernelListens => {
            let at = Meeting::theirs(family, PORT);
            let server = meeting.server("discard-server", at, "--once").await;
            (connect(meeting, family, load.streams).await, server)
        }
        Role::StackListens => {
            let listener = listen(meeting, family);
            let flags = format!("--instreams {}", load.streams);
            let client = meeting.client("discard-client", Meeting::ours(family, PORT), &flags);
            let (association, _) = listener.accept().await.expect("a client");
            (association, client)
        }
    };
    let streams = u32::from(load.streams.min(association.status().outbound_streams));
    for i in 0..load.count {
        let stream = (i % streams) as u16;
        let message = payload::message(stream, i / streams, load.size);
        let sent = association.send(message, on(stream, load.unordered)).await;
        sent.expect("an association that lives");
    }
    // With all that is still to be sent.
    let (closed, ended) = tokio::join!(association.shutdown(), peer.finish());
    closed.expect("in order");
    ended.assert_well(load.total(), (0, 0));
    assert!(ended.said("peer_shutdown"), "{ended:#?}");
}

async fn from_them(meeting: &Meeting, family: Family, role: Role, load: Load) {
    let (association, peer) = match role {
        Role::KernelListens => {
            let at = Meeting::theirs(family, PORT);
            let flags = format!("--once {}", load.flags());
            let server = meeting.server("source-server", at, &flags).await;
            (connect(meeting, family, 10).await, server)
        }
        Role::StackListens => {
            let listener = listen(meeting, family);
            let client = meeting.client("bulk-client", Meeting::ours(family, PORT), &load.flags());
            let (association, _) = listener.accept().await.expect("a client");
            (association, client)
        }
    };
    let (received, ended) = tokio::join!(take(&association, load), peer.finish());
    assert_eq!(received, load.total(), "{ended:#?}");
    association.closed().await.expect("shut down in order");
    ended.assert_well((0, 0), load.total());
}

/// Reads and checks until the peer shuts down.
async fn take(association: &SctpAssociation, load: Load) -> (u64, u64) {
    let mut numbers: Vec<Vec<u32>> = vec![Vec::new(); usize::from(load.streams)];
    let mut octets = 0;
    while let Some(message) = receive(association).await.expect("no failure") {
        octets += message.data.len() as u64;
        assert_eq!(message.unordered, load.unordered);
        numbers[usize::from(message.stream)].push(payload::number(&message));
    }
    for numbers in &mut numbers {
        if load.unordered {
            numbers.sort_unstable();
        }
        let expected = 0..numbers.len() as u32;
        assert!(numbers.iter().copied().eq(expected), "{numbers:?}");
    }
    let messages = numbers.iter().map(|numbers| numbers.len() as u64).sum();
    (messages, octets)
}
