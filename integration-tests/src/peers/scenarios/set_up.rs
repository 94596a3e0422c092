//! How associations begin, or do not, and how they live on when nothing is sent.

use std::io::ErrorKind;
use std::time::Duration;

use tidewire::net::sctp::{InitMessage, PeerAddressParameters, SctpAssociation};
use tokio::time::sleep;

use super::{PORT, connect, listen};
use crate::kernel::Family;
use crate::peers::{Meeting, Peer};

/// Streams each way are as many as the sender asks for and the receiver takes (RFC 9260 5.1.1).
pub async fn stream_negotiation(meeting: &Meeting, family: Family) -> usize {
    /// Their streams out and at most in, and ours.
    const CASES: [(u16, u16, u16, u16); 4] = [
        (1, 1, 1, 1),
        (10, 7, 100, 5),
        (100, 100, 100, 100),
        (3, 2048, 1000, 2),
    ];
    for (their_out, their_in, our_out, our_in) in CASES {
        let ours = InitMessage {
            outbound_streams: Some(our_out),
            max_inbound_streams: Some(our_in),
            ..InitMessage::default()
        };
        let theirs = format!("--streams {their_out} --instreams {their_in}");
        let (to_us, to_them) = (their_out.min(our_in), our_out.min(their_in));

        let at = Meeting::theirs(family, PORT);
        let flags = format!("--once {theirs}");
        let mut server = meeting.server("discard-server", at, &flags).await;
        let association = meeting.stack.sctp_builder().init(ours).connect(at).await;
        let association = association.expect("a peer that listens");
        assert_agreed(&association, &mut server, to_us, to_them).await;
        association.shutdown().await.expect("in order");
        server.finish().await.assert_well((0, 0), (0, 0));

        let builder = meeting.stack.sctp_builder().init(ours);
        let listener = builder.listen_on(&[Meeting::ours(family, PORT)]);
        let listener = listener.expect("a free port");
        let to = Meeting::ours(family, PORT);
        let mut client = meeting.client("discard-client", to, &theirs);
        let (association, _) = listener.accept().await.expect("a client");
        assert_agreed(&association, &mut client, to_us, to_them).await;
        association.shutdown().await.expect("in order");
        client.finish().await.assert_well((0, 0), (0, 0));
    }
    2 * CASES.len()
}

async fn assert_agreed(association: &SctpAssociation, peer: &mut Peer, to_us: u16, to_them: u16) {
    let status = association.status();
    assert_eq!(
        (status.inbound_streams, status.outbound_streams),
        (to_us, to_them)
    );
    let up = peer
        .until("COMM_UP", |event| event["state"] == "COMM_UP")
        .await;
    assert_eq!((&up["out"], &up["in"]), (&to_us.into(), &to_them.into()));
}

/// Where nobody listens, connecting is refused at once, in both directions.
pub async fn refusals(meeting: &Meeting, family: Family) -> usize {
    // Somebody who answers for the whole host.
    let at = Meeting::theirs(family, PORT);
    let server = meeting.server("discard-server", at, "").await;
    let nobody = Meeting::theirs(family, PORT + 1);
    let refused = meeting.stack.sctp_association(nobody).await;
    let error = refused.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    server.interrupt();
    drop(server.finish().await);

    let nobody = Meeting::ours(family, PORT + 1);
    let ended = meeting.client("bulk-client", nobody, "").finish().await;
    let failed = ended
        .said
        .iter()
        .find(|event| event["ev"] == "connect_error");
    let failed = failed.unwrap_or_else(|| panic!("{ended:#?}"));
    assert_eq!(failed["error"], "Connection refused");
    assert_eq!(ended.status.code(), Some(1));
    2
}

/// With nothing to send, both ends ask whether the other is there, and are answered (RFC 9260 8.3).
pub async fn heartbeats(meeting: &Meeting, family: Family) -> usize {
    // Theirs: without an answer, the path fails after one.
    let listener = listen(meeting, family);
    let flags = "--count 1 --hb 100 --path-max-retrans 1 --rto-initial 100 --rto-min 50 \
                 --rto-max 200 --wait 2";
    let client = meeting.client("bulk-client", Meeting::ours(family, PORT), flags);
    let (association, _) = listener.accept().await.expect("a client");
    while super::receive(&association).await.expect("alive").is_some() {}
    let answered = association.stats().control_chunks_received;
    assert!(answered > 8, "{answered}");
    let ended = client.finish().await;
    ended.assert_well((0, 0), (1, 1024));
    let failed = |event: &&serde_json::Value| {
        event["ev"] == "peer_addr_change" && event["state"] == "UNREACHABLE"
    };
    assert_eq!(ended.said.iter().find(failed), None, "{ended:#?}");

    // Ours.
    let at = Meeting::theirs(family, PORT);
    let server = meeting.server("discard-server", at, "--once").await;
    let association = connect(meeting, family, 1).await;
    let parameters = PeerAddressParameters {
        heartbeat_interval: Some(Duration::from_millis(50)),
        ..PeerAddressParameters::default()
    };
    let changed = association.set_peer_address_parameters(Some(at.ip()), parameters);
    changed.expect("its address");
    let before = association.stats();
    // RTO and interval, with the jitter of half an RTO (8.3): at most 1.6 s at RTO.Min.
    sleep(Duration::from_secs(5)).await;
    let after = association.stats();
    let sent = after.control_chunks_sent - before.control_chunks_sent;
    assert!(sent >= 2, "{sent}");
    let received = after.control_chunks_received - before.control_chunks_received;
    assert!(received >= sent - 1, "{received} of {sent}");
    assert_eq!(association.paths()[0].error_count, 0);
    association.shutdown().await.expect("in order");
    server.finish().await.assert_well((0, 0), (0, 0));
    2
}
