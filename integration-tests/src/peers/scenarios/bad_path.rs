//! Both directions at once over a path that loses, reorders, duplicates and damages.

use std::time::Duration;

use tidewire::net::sctp::RtoInfo;

use super::echo::send_back;
use super::{PORT, connect, listen, on, receive};
use crate::kernel::Family;
use crate::peers::{Meeting, payload};

/// What is lost at the end of a flight is found out by a timeout: by default after a second at least, and three for the
/// first packets. Here, all ends wait for less.
const TIMEOUTS: RtoInfo = RtoInfo {
    initial: Some(Duration::from_millis(300)),
    min: Some(Duration::from_millis(100)),
    max: Some(Duration::from_millis(1000)),
};
const THEIR_TIMEOUTS: &str = "--rto-initial 300 --rto-min 100 --rto-max 1000";

/// Messages there and back, first with a server of theirs, then with one of ours: each octet arrives, in order.
pub async fn exchange(meeting: &Meeting, family: Family) -> usize {
    const STREAMS: u16 = 4;
    const COUNT: u32 = 60;
    const SIZE: usize = 5000;
    let at = Meeting::theirs(family, PORT);
    let flags = format!("--once {THEIR_TIMEOUTS}");
    let server = meeting.server("echo-server", at, &flags).await;
    let association = connect(meeting, family, STREAMS).await;
    association.set_rto_info(TIMEOUTS).expect("in order");
    let streams = u32::from(STREAMS);
    let message = |i| payload::message((i % streams) as u16, i / streams, SIZE);
    let send = async {
        for i in 0..COUNT {
            let sent = association.send(message(i), on((i % streams) as u16, false));
            sent.await.expect("an association that lives");
        }
    };
    let take = async {
        let mut next = [0; STREAMS as usize];
        for _ in 0..COUNT {
            let back = receive(&association).await.expect("alive");
            let back = back.expect("no end yet");
            let next = &mut next[usize::from(back.stream)];
            assert_eq!(payload::number(&back), *next);
            *next += 1;
        }
    };
    tokio::join!(send, take);
    association.shutdown().await.expect("in order");
    let all = (u64::from(COUNT), u64::from(COUNT) * SIZE as u64);
    server.finish().await.assert_well(all, all);

    let listener = listen(meeting, family);
    let flags =
        format!("--streams {STREAMS} --size {SIZE} --count {COUNT} --window 20 {THEIR_TIMEOUTS}");
    let client = meeting.client("echo-client", Meeting::ours(family, PORT), &flags);
    let echo = async {
        let (association, _) = listener.accept().await.expect("a client");
        association.set_rto_info(TIMEOUTS).expect("in order");
        // Not waited for: the end. The client's last packet may be lost, and then nobody is there to send it again.
        send_back(&association, u64::MAX).await
    };
    let (echoed, ended) = tokio::join!(echo, client.finish());
    assert_eq!(echoed, all, "{ended:#?}");
    ended.assert_well(all, all);
    2
}
