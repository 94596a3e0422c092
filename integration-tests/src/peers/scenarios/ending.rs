//! Shutdown and abort, from each side, in each role.

use std::io::ErrorKind;
use std::time::Duration;

use tidewire::net::sctp::{AssociationChange, Notification, SctpAssociation, State};
use tidewire::wire::sctp::ErrorCause;
use tokio::time::sleep;

use super::echo::send_back;
use super::{PORT, connect, is_up, listen, on, receive, told};
use crate::kernel::{Family, Role};
use crate::peers::{Ended, Implementation, Meeting, Peer, payload};

/// Messages before the end.
const COUNT: u64 = 5;
const SIZE: u64 = 1000;

/// An association of ours, as server or as client of an echo, before anything is sent.
async fn associated(
    meeting: &Meeting,
    family: Family,
    role: Role,
    flags: &str,
) -> (SctpAssociation, Peer) {
    match role {
        Role::KernelListens => {
            let at = Meeting::theirs(family, PORT);
            let flags = format!("--once {flags}");
            let server = meeting.server("echo-server", at, &flags).await;
            (connect(meeting, family, 10).await, server)
        }
        Role::StackListens => {
            let listener = listen(meeting, family);
            let flags = format!("--size {SIZE} --count {COUNT} {flags}");
            let client = meeting.client("echo-client", Meeting::ours(family, PORT), &flags);
            let (association, _) = listener.accept().await.expect("a client");
            (association, client)
        }
    }
}

/// All messages of an association there and back, whoever sends them.
async fn talk(association: &SctpAssociation, role: Role) {
    if role == Role::StackListens {
        send_back(association, COUNT).await;
        return;
    }
    for i in 0..COUNT {
        let message = payload::message(0, i as u32, SIZE as usize);
        let sent = association.send(message.clone(), on(0, false)).await;
        sent.expect("an association that lives");
        let back = receive(association).await.expect("alive");
        assert_eq!(back.expect("no end yet").data, message);
    }
}

fn assert_shut_down(ended: &Ended) {
    let all = (COUNT, COUNT * SIZE);
    ended.assert_well(all, all);
    // A peer that has read the end may be gone before it is told that the other side knows.
    let mut changes = changes(ended);
    assert_eq!(changes.next(), Some("COMM_UP"), "{ended:#?}");
    assert!(
        changes.all(|change| change == "SHUTDOWN_COMP"),
        "{ended:#?}"
    );
}

/// What the peer was told of the association.
fn changes(ended: &Ended) -> impl Iterator<Item = &str> {
    let told = ended.said.iter();
    told.filter(|event| event["ev"] == "assoc_change")
        .filter_map(|event| event["state"].as_str())
}

/// The side that asks is done when the other has agreed; both know that it was in order.
pub async fn shutdowns(meeting: &Meeting, family: Family) -> usize {
    // Ours.
    for role in Role::ALL {
        let (association, peer) = associated(meeting, family, role, "--wait 30").await;
        talk(&association, role).await;
        association.shutdown().await.expect("in order");
        assert_eq!(association.state(), State::Closed);
        let ended = peer.finish().await;
        assert_shut_down(&ended);
        assert!(ended.said("peer_shutdown"), "{ended:#?}");
        told_of_the_end(&association, false).await;
    }
    // Theirs. A server of theirs shuts down only when it is a source.
    let (association, client) = associated(meeting, family, Role::StackListens, "").await;
    talk(&association, Role::StackListens).await;
    assert_eq!(receive(&association).await.expect("no failure"), None);
    association.closed().await.expect("in order");
    assert_shut_down(&client.finish().await);
    told_of_the_end(&association, true).await;

    let flags = format!("--once --count {COUNT} --size {SIZE}");
    let at = Meeting::theirs(family, PORT);
    let server = meeting.server("source-server", at, &flags).await;
    let association = connect(meeting, family, 10).await;
    receive_all(&association).await;
    assert_eq!(receive(&association).await.expect("no failure"), None);
    association.closed().await.expect("in order");
    let ended = server.finish().await;
    ended.assert_well((0, 0), (COUNT, COUNT * SIZE));
    told_of_the_end(&association, true).await;
    2 * Role::ALL.len()
}

/// Everything a source sends.
async fn receive_all(association: &SctpAssociation) {
    for _ in 0..COUNT {
        let message = receive(association).await.expect("alive");
        payload::number(&message.expect("no end yet"));
    }
}

async fn told_of_the_end(association: &SctpAssociation, by_peer: bool) {
    told(association, "start", is_up).await;
    if by_peer {
        let is_shutdown = |told: &Notification| matches!(told, Notification::ShutdownEvent);
        told(association, "shutdown by the peer", is_shutdown).await;
    }
    told(association, "end in order", |notification| {
        matches!(
            notification,
            Notification::AssociationChange(AssociationChange::ShutdownComplete)
        )
    })
    .await;
}

/// The other side knows at once, and why if it was told.
pub async fn aborts(meeting: &Meeting, family: Family) -> usize {
    // Ours.
    for role in Role::ALL {
        let (association, mut peer) = associated(meeting, family, role, "--wait 30").await;
        talk(&association, role).await;
        // Otherwise its client might still be about to send.
        if role == Role::StackListens {
            sleep(Duration::from_millis(100)).await;
        }
        association.abort("tired of it");
        let lost = |event: &serde_json::Value| event["state"] == "COMM_LOST";
        let lost = peer.until("COMM_LOST", lost).await;
        // The cause User-Initiated Abort (RFC 9260 3.3.10.12).
        assert_eq!(lost["error"], 12);
        let ended = peer.finish().await;
        assert_eq!(ended.account()["result"], "lost", "{ended:#?}");
        assert_eq!(ended.status.code(), Some(1));
        assert_eq!(association.recv().await.expect("by us"), None);
    }
    // Theirs.
    for role in Role::ALL {
        let (association, peer) = match role {
            Role::StackListens => {
                let (association, peer) = associated(meeting, family, role, "--abort").await;
                talk(&association, role).await;
                (association, peer)
            }
            Role::KernelListens => {
                let flags = format!("--once --abort --wait 0.5 --count {COUNT} --size {SIZE}");
                let at = Meeting::theirs(family, PORT);
                let server = meeting.server("source-server", at, &flags).await;
                let association = connect(meeting, family, 10).await;
                receive_all(&association).await;
                (association, server)
            }
        };
        let error = receive(&association).await.expect_err("aborted");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let ended = peer.finish().await;
        assert_eq!(ended.account()["result"], "aborted", "{ended:#?}");
        told_of_the_abort(&association, meeting.implementation()).await;
    }
    2 * Role::ALL.len()
}

async fn told_of_the_abort(association: &SctpAssociation, by: Implementation) {
    told(association, "loss", |notification| {
        let Notification::AssociationChange(AssociationChange::CommunicationLost {
            causes, ..
        }) = notification
        else {
            return false;
        };
        let reason = causes.iter().find_map(|cause| match cause {
            Ok(ErrorCause::UserInitiatedAbort(reason)) => Some(reason),
            _ => None,
        });
        match by {
            Implementation::Usrsctp => assert_eq!(reason.as_deref(), Some(&b"test"[..])),
            Implementation::Linux => assert_eq!(reason.as_deref().unwrap_or_default(), b""),
        }
        true
    })
    .await;
}
