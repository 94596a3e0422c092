//! An end that dies unseen and comes back under the same ports (RFC 9260 5.2.4).

use std::net::SocketAddr;
use std::time::Duration;

use tidewire::net::sctp::{AssociationChange, Notification, SctpAssociation};
use tokio::time::sleep;

use super::echo::send_back;
use super::{PORT, is_up, listen, on, receive, told};
use crate::kernel::Family;
use crate::peers::{Meeting, payload};

/// The port of whoever connects.
const CLIENT_PORT: u16 = 6000;

/// Their client dies and connects again: the association we have goes on with it, and says that it has been restarted.
pub async fn peer_restarts(meeting: &Meeting, family: Family) -> usize {
    const FLAGS: &str = "--count 20 --size 3000 --streams 5 --window 4";
    let listener = listen(meeting, family);
    let to = Meeting::ours(family, PORT);
    let dies = format!("{FLAGS} --port {CLIENT_PORT} --wait 2 --abort");
    let mut client = meeting.client("echo-client", to, &dies);
    let (association, _) = listener.accept().await.expect("a client");
    send_back(&association, 20).await;
    told(&association, "start", is_up).await;
    // Nothing is under way any more that could meet a host that does not know it.
    while association.status().send_buffered > 0 {
        sleep(Duration::from_millis(10)).await;
    }
    // Its last words are lost.
    let ended = meeting.cut(async {
        client.event("abort_sent").await;
        client.finish().await
    });
    let ended = ended.await;
    assert_eq!(ended.account()["result"], "aborted", "{ended:#?}");

    let again = format!("{FLAGS} --port {CLIENT_PORT}");
    let client = meeting.client("echo-client", to, &again);
    let (echoed, ended) = tokio::join!(send_back(&association, u64::MAX), client.finish());
    assert_eq!(echoed, (20, 20 * 3000), "{ended:#?}");
    ended.assert_well(echoed, echoed);
    told(&association, "restart", |notification| {
        matches!(
            notification,
            Notification::AssociationChange(AssociationChange::Restart {
                inbound_streams: 5,
                ..
            })
        )
    })
    .await;
    association.closed().await.expect("shut down in order");
    assert_eq!(association.stats().restarts, 1);
    1
}

/// We die and connect again: their server says that the association has been restarted, and goes on.
pub async fn we_restart(meeting: &Meeting, family: Family) -> usize {
    let at = Meeting::theirs(family, PORT);
    let mut server = meeting.server("echo-server", at, "--once").await;
    let association = from_the_port(meeting, family, at).await;
    ask(&association).await;
    // Our last words are lost.
    meeting
        .cut(async {
            association.abort("unheard");
            association.closed().await.expect("by us");
        })
        .await;
    let association = from_the_port(meeting, family, at).await;
    let restarted = |event: &serde_json::Value| event["state"] == "RESTART";
    server.until("RESTART", restarted).await;
    ask(&association).await;
    association.shutdown().await.expect("in order");
    let ended = server.finish().await;
    // The numbers of the streams begin anew, which its account takes for messages out of order.
    let account = ended.account();
    assert_eq!(account["rx_msgs"], 10, "{ended:#?}");
    assert_eq!(account["tx_msgs"], 10, "{ended:#?}");
    assert_eq!(account["bad"], 0, "{ended:#?}");
    1
}

async fn from_the_port(meeting: &Meeting, family: Family, to: SocketAddr) -> SctpAssociation {
    let builder = meeting.stack.sctp_builder().nodelay(true);
    let builder = builder.bind(&[Meeting::ours(family, CLIENT_PORT)]);
    builder.connect(to).await.expect("a peer that listens")
}

async fn ask(association: &SctpAssociation) {
    for i in 0..5 {
        let message = payload::message(i, 0, 3000);
        let sent = association.send(message.clone(), on(i, false)).await;
        sent.expect("an association that lives");
        let back = receive(association).await.expect("alive");
        assert_eq!(back.expect("no end yet").data, message);
    }
}
