//! Associations over two networks, one of which fails and comes back: all messages arrive, once and in order, and both
//! ends tell of the path that was lost and found (RFC 9260 6.4, 8.2 to 8.4).

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tidewire::net::sctp::{
    InitMessage, Notification, PathChange, PathState, PeerAddressParameters, RtoInfo,
    SctpAssociation, SocketOptions, Subscriptions,
};
use tokio::time::sleep;

use super::echo::send_back;
use super::{PORT, on, receive};
use crate::kernel::{Family, Role};
use crate::peers::{Failure, Meeting, Peer, payload};

const STREAMS: u16 = 4;
const SIZE: usize = 3000;
/// Messages before a network fails.
const BEFORE: u32 = 40;
/// Messages of theirs: four seconds' worth, of which the network is gone for one and a half.
const THEIRS: u32 = 400;
const PACE: Duration = Duration::from_millis(10);

/// A path fails after two timeouts, 0.6 s, and is probed every second at least: as the peers do between themselves.
const THEIR_TIMES: &str = "--rto-initial 500 --rto-min 200 --rto-max 1000 --path-max-retrans 1 \
     --assoc-max-retrans 10 --hb 200 --nodelay";

fn our_times() -> SocketOptions {
    SocketOptions {
        init: InitMessage {
            outbound_streams: Some(STREAMS),
            ..InitMessage::default()
        },
        rto: RtoInfo {
            initial: Some(Duration::from_millis(500)),
            min: Some(Duration::from_millis(200)),
            max: Some(Duration::from_secs(1)),
        },
        peer_address: PeerAddressParameters {
            path_max_retrans: Some(1),
            heartbeat_interval: Some(Duration::from_millis(200)),
            ..PeerAddressParameters::default()
        },
        nodelay: Some(true),
        events: Subscriptions::PEER_ADDRESS,
        ..SocketOptions::default()
    }
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    ToThem,
    FromThem,
    /// From whoever connects to the listener, and back.
    Echo,
}

/// One association that goes through the failure of a network.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// IP versions of the two networks.
    families: [Family; 2],
    role: Role,
    traffic: Traffic,
    network: usize,
    failure: Failure,
}

/// The network of the primary path fails, in every way; then the other one.
pub async fn network_fails_and_heals(meeting: &Meeting, family: Family) -> usize {
    let mut cases = Vec::new();
    for role in Role::ALL {
        let case = Case {
            families: [family; 2],
            role,
            traffic: Traffic::Echo,
            network: 0,
            failure: Failure::Silent,
        };
        let traffic = |traffic| Case { traffic, ..case };
        cases.extend([Traffic::Echo, Traffic::ToThem, Traffic::FromThem].map(traffic));
        cases.push(Case {
            failure: Failure::Down,
            ..case
        });
        cases.push(Case { network: 1, ..case });
    }
    meet_cases(meeting, &cases).await
}

/// IPv4 on the first network, IPv6 on the second. Not the other way round: no implementation lists private IPv4 addresses
/// to a peer that it knows by an IPv6 address of global scope.
pub async fn one_version_fails_and_heals(meeting: &Meeting, family: Family) -> usize {
    if family == Family::V6 {
        return 0;
    }
    let case = |role| Case {
        families: [Family::V4, Family::V6],
        role,
        traffic: Traffic::Echo,
        network: 0,
        failure: Failure::Silent,
    };
    meet_cases(meeting, &Role::ALL.map(case)).await
}

async fn meet_cases(meeting: &Meeting, cases: &[Case]) -> usize {
    for case in cases {
        case.run(meeting).await;
    }
    // Data went over both networks, and both were probed.
    for chunk_type in [0, 4, 5] {
        let seen = meeting.recorded(&format!("sctp.chunk_type == {chunk_type}"));
        assert!(
            seen.iter().all(|&count| count > 0),
            "{chunk_type}: {seen:?}"
        );
    }
    cases.len()
}

impl Case {
    async fn run(self, meeting: &Meeting) {
        let (association, mut peer) = self.associated(meeting).await;
        // Addresses that one connects to need no confirmation (RFC 9260 5.4).
        if self.role == Role::KernelListens {
            self.until_told(&mut peer, 1, "CONFIRMED").await;
        }
        let lost = Meeting::all_theirs(self.families, PORT)[self.network].ip();
        let transfer = Transfer::default();
        let outage = async {
            while transfer.messages.get() < BEFORE {
                sleep(PACE).await;
            }
            meeting.fail(self.network, self.failure).await;
            until(&association, lost, PathChange::Unreachable).await;
            self.until_told(&mut peer, self.network, "UNREACHABLE")
                .await;
            // Life goes on without.
            let then = transfer.messages.get();
            while transfer.messages.get() < then + 10 {
                sleep(PACE).await;
            }
            meeting.heal(self.network, self.failure).await;
            until(&association, lost, PathChange::Available).await;
            self.until_told(&mut peer, self.network, "AVAILABLE").await;
            transfer.enough.set(true);
        };
        let work = async {
            match (self.traffic, self.role) {
                (Traffic::ToThem, _) => transfer.send(&association).await,
                (Traffic::Echo, Role::KernelListens) => {
                    let send = transfer.send(&association);
                    let (sent, ()) = tokio::join!(send, transfer.take_back(&association));
                    sent
                }
                (Traffic::FromThem, _) => transfer.take(&association).await,
                (Traffic::Echo, Role::StackListens) => transfer.echo(&association).await,
            }
        };
        let ((), messages) = tokio::join!(outage, work);
        let all = (u64::from(messages), u64::from(messages) * SIZE as u64);
        let ended = match self.we_end() {
            true => {
                let (closed, ended) = tokio::join!(association.shutdown(), peer.finish());
                closed.expect("in order");
                ended
            }
            false => {
                let (closed, ended) = tokio::join!(association.closed(), peer.finish());
                closed.expect("in order");
                assert_eq!(messages, THEIRS);
                ended
            }
        };
        match self.traffic {
            Traffic::ToThem => ended.assert_well(all, (0, 0)),
            Traffic::FromThem => ended.assert_well((0, 0), all),
            Traffic::Echo => ended.assert_well(all, all),
        }
    }

    /// Whether the association ends when we have sent enough; otherwise the peer ends it.
    fn we_end(self) -> bool {
        match self.traffic {
            Traffic::ToThem => true,
            Traffic::FromThem => false,
            Traffic::Echo => self.role == Role::KernelListens,
        }
    }

    /// With all addresses confirmed at both ends.
    async fn associated(self, meeting: &Meeting) -> (SctpAssociation, Peer) {
        let ours = Meeting::all_ours(self.families, PORT);
        let theirs = Meeting::all_theirs(self.families, PORT);
        let builder = meeting.stack.sctp_builder().options(our_times());
        let pace = PACE.as_millis();
        let load = format!(
            "--streams {STREAMS} --size {SIZE} --count {THEIRS} --interval {pace} --wait 1"
        );
        let (association, peer) = match self.role {
            Role::KernelListens => {
                let (mode, load) = match self.traffic {
                    Traffic::ToThem => ("discard-server", ""),
                    Traffic::FromThem => ("source-server", &*load),
                    Traffic::Echo => ("echo-server", ""),
                };
                let flags = format!("--once --streams {STREAMS} {THEIR_TIMES} {load}");
                let server = meeting.server_on(mode, &theirs, &flags).await;
                let any_port = ours.map(|address| SocketAddr::new(address.ip(), 0));
                let connected = builder.bind(&any_port).connect(&theirs[..]).await;
                (connected.expect("a peer that listens"), server)
            }
            Role::StackListens => {
                let (mode, load) = match self.traffic {
                    Traffic::ToThem => ("discard-client", String::new()),
                    Traffic::FromThem => ("bulk-client", load),
                    Traffic::Echo => ("echo-client", format!("{load} --window 30")),
                };
                let listener = builder.listen_on(&ours).expect("a free port");
                let remote = ours.map(|address| address.ip().to_string()).join(",");
                let flags = format!(
                    "--remote {remote} --rport {PORT} --connect-all --streams {STREAMS} {THEIR_TIMES} {load}"
                );
                let local = theirs.map(|address| address.ip());
                let client = meeting.peer(&local, mode, &flags);
                let (association, _) = listener.accept().await.expect("a client");
                (association, client)
            }
        };
        let all = |association: &SctpAssociation| {
            let paths = association.paths();
            paths.len() == 2 && paths.iter().all(|path| path.state == PathState::Active)
        };
        while !all(&association) {
            sleep(PACE).await;
        }
        (association, peer)
    }

    /// Waits until the peer has found that the path over a network is in that state.
    async fn until_told(self, peer: &mut Peer, network: usize, state: &str) {
        let path = Meeting::all_ours(self.families, PORT)[network].ip();
        let is_told = |event: &Value| {
            let address = event["addr"].as_str().unwrap_or_default();
            event["ev"] == "peer_addr_change"
                && event["state"] == state
                && address.trim_start_matches("::ffff:") == path.to_string()
        };
        peer.until(&format!("{state} {path}"), is_told).await;
    }
}

/// Waits until the association has told this of a path.
async fn until(association: &SctpAssociation, path: IpAddr, wanted: PathChange) {
    super::told(association, &format!("{wanted:?}"), |notification| {
        matches!(
            notification,
            Notification::PeerAddressChange { address, change }
                if *address == path && *change == wanted
        )
    })
    .await;
}

/// What has been transferred so far.
#[derive(Default)]
struct Transfer {
    /// Sent by us, or received when we only receive.
    messages: Cell<u32>,
    /// No more need be sent.
    enough: Cell<bool>,
    /// The last message is being sent, or was.
    is_last_sent: Cell<bool>,
}

impl Transfer {
    /// Sends until it is enough, and then once more, for whoever waits for the next; how many messages that was.
    async fn send(&self, association: &SctpAssociation) -> u32 {
        let streams = u32::from(STREAMS);
        loop {
            let is_last = self.enough.get();
            self.is_last_sent.set(is_last);
            let i = self.messages.get();
            let stream = (i % streams) as u16;
            let message = payload::message(stream, i / streams, SIZE);
            let sent = association.send(message, on(stream, false)).await;
            sent.expect("an association that lives");
            self.messages.set(i + 1);
            if is_last {
                return i + 1;
            }
            sleep(PACE).await;
        }
    }

    /// Receives what [`Self::send`] sends, each message once and in order, until there is nothing more to come.
    async fn take_back(&self, association: &SctpAssociation) {
        let mut expected = Expected::default();
        while !self.is_last_sent.get() || expected.count < self.messages.get() {
            let back = receive(association).await.expect("alive");
            expected.next(&back.expect("no end yet"));
        }
    }

    /// Receives until the peer shuts down.
    async fn take(&self, association: &SctpAssociation) -> u32 {
        let mut expected = Expected::default();
        while let Some(message) = receive(association).await.expect("alive") {
            expected.next(&message);
            self.messages.set(expected.count);
        }
        expected.count
    }

    /// Sends back all that comes, which the peer checks.
    async fn echo(&self, association: &SctpAssociation) -> u32 {
        loop {
            let (echoed, _) = send_back(association, 1).await;
            if echoed == 0 {
                return self.messages.get();
            }
            self.messages.set(self.messages.get() + 1);
        }
    }
}

/// The numbers that come next.
#[derive(Default)]
struct Expected {
    streams: [u32; STREAMS as usize],
    count: u32,
}

impl Expected {
    fn next(&mut self, message: &tidewire::net::sctp::SctpMessage) {
        let number = &mut self.streams[usize::from(message.stream)];
        assert_eq!(payload::number(message), *number);
        *number += 1;
        self.count += 1;
    }
}
