//! What every peer is put through. A scenario returns how many cases it was.

mod bad_path;
mod bulk;
mod echo;
mod ending;
mod restart;
mod set_up;
mod two_networks;

use std::io;

use tidewire::net::sctp::{
    AssociationChange, InitMessage, Notification, SctpAssociation, SctpListener, SctpMessage,
    SendOptions,
};

use super::Meeting;
use crate::kernel::Family;

pub use bad_path::exchange;
pub use bulk::{bulk_both_ways, messages_of_any_size};
pub use echo::{echo_by_us, echo_of_every_size};
pub use ending::{aborts, shutdowns};
pub use restart::{peer_restarts, we_restart};
pub use set_up::{heartbeats, refusals, stream_negotiation};
pub use two_networks::{network_fails_and_heals, one_version_fails_and_heals};

/// A test for each scenario against the implementation, within the limit; twice that for those that wait for timeouts.
#[macro_export]
macro_rules! peer_scenarios {
    ($implementation:expr, $limit:expr) => {
        $crate::peer_scenarios! {
            $implementation, $limit;
            stream_negotiation refusals heartbeats
            echo_of_every_size echo_by_us
            bulk_both_ways messages_of_any_size
            shutdowns aborts
            peer_restarts we_restart
        }
        $crate::peer_scenarios! {
            two networks, $implementation, $limit * 2;
            network_fails_and_heals one_version_fails_and_heals
        }
    };
    (two networks, $implementation:expr, $limit:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let scenario = $crate::peers::scenarios::$name;
                $crate::peers::meet_on_two_networks(stringify!($name), $implementation, $limit, scenario);
            }
        )*
    };
    ($implementation:expr, $limit:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                let scenario = $crate::peers::scenarios::$name;
                $crate::peers::meet(stringify!($name), $implementation, None, $limit, scenario);
            }
        )*
    };
}

/// Where servers are.
const PORT: u16 = 5000;

async fn connect(meeting: &Meeting, family: Family, streams: u16) -> SctpAssociation {
    let init = InitMessage {
        outbound_streams: Some(streams),
        ..InitMessage::default()
    };
    let builder = meeting.stack.sctp_builder().nodelay(true).init(init);
    let association = builder.connect(Meeting::theirs(family, PORT)).await;
    association.expect("a peer that listens")
}

fn listen(meeting: &Meeting, family: Family) -> SctpListener {
    // As many as any client has, so that each can be answered.
    let init = InitMessage {
        outbound_streams: Some(100),
        ..InitMessage::default()
    };
    let builder = meeting.stack.sctp_builder().nodelay(true).init(init);
    let listener = builder.listen_on(&[Meeting::ours(family, PORT)]);
    listener.expect("a free port")
}

/// The next message, of however many parts.
async fn receive(association: &SctpAssociation) -> io::Result<Option<SctpMessage>> {
    let Some(mut message) = association.recv().await? else {
        return Ok(None);
    };
    if message.end_of_record {
        return Ok(Some(message));
    }
    let mut whole = message.data.to_vec();
    while !message.end_of_record {
        let part = association.recv().await?;
        let part = part.expect("no end of data amid a message");
        assert_eq!(part.stream, message.stream);
        whole.extend_from_slice(&part.data);
        message.end_of_record = part.end_of_record;
    }
    message.data = whole.into();
    Ok(Some(message))
}

const fn on(stream: u16, unordered: bool) -> SendOptions {
    SendOptions {
        stream,
        // Nobody's, so that Wireshark looks no further.
        ppid: 0x7469_6465,
        unordered,
        context: 0,
        immediate_ack: false,
    }
}

/// Waits until the association has told this.
async fn told(association: &SctpAssociation, what: &str, wanted: impl Fn(&Notification) -> bool) {
    let mut others = Vec::new();
    loop {
        let notification = association.event().await;
        match notification.expect("notifications outlive the association") {
            Some(notification) if wanted(&notification) => return,
            Some(notification) => others.push(notification),
            None => panic!("no {what} among {others:#?}"),
        }
    }
}

fn is_up(notification: &Notification) -> bool {
    matches!(
        notification,
        Notification::AssociationChange(AssociationChange::CommunicationUp { .. })
    )
}
