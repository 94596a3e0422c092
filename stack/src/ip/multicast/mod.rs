//! Multicast groups: which are listened to on which interface, and telling the routers and switches of the link (the host
//! side of IGMP, RFC 1112, 2236, 3376, and of Multicast Listener Discovery, RFC 2710, 3810).
//!
//! Owned here: the filters of all who listen, merged for each interface ([`filter`], [`membership`]); when something is
//! reported ([`membership`], one state machine: IGMPv2 and MLDv1, IGMPv3 and MLDv2 are the same but for their packets);
//! the packets ([`igmp`], [`mld`]). Left to others: sockets, the frame, when to look at the clock.
//!
//! ```text
//!  sockets' filters ─▶ Memberships::set ─▶ merged filter ─▶ accepts(): what is delivered at all
//!                                    └─ change ─▶ poll_transmit ─▶ igmp::packets, mld::packets
//!  igmp::receive, mld::receive ─▶ handle_query, handle_report
//! ```

pub mod filter;
pub mod igmp;
pub mod membership;
pub mod mld;

use std::net::IpAddr;
use std::time::Duration;

pub use filter::{FilterMode, SourceFilter};
pub use membership::{Holder, Memberships};

use crate::link::InterfaceId;
use crate::wire::group_record::RecordKind;

/// Times and limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often a change is told, until a querier says otherwise (RFC 3376 8.1, RFC 3810 9.1: 2; at least 1).
    pub robustness: u8,
    /// The time between general queries, until a querier says otherwise (RFC 3376 8.2, RFC 3810 9.2: 125 s). How long a
    /// querier of an older version is remembered follows from it.
    pub query_interval: Duration,
    /// Most time before a change is told again with IGMPv3 and MLDv2 (RFC 3376 8.11, RFC 3810 9.11: 1 s).
    pub unsolicited_report_interval: Duration,
    /// The same with older versions (RFC 2236 8.10, RFC 2710 7.10: 10 s).
    pub older_unsolicited_report_interval: Duration,
    /// Most groups of a socket over IPv4 (Linux's `igmp_max_memberships`: 20).
    pub max_memberships_v4: usize,
    /// Most groups of a socket over IPv6: 64. Linux limits their memory, not their number.
    pub max_memberships_v6: usize,
    /// Most sources that a socket names for a group over IPv4 (Linux's `igmp_max_msf`: 10).
    pub max_sources_v4: usize,
    /// The same over IPv6 (Linux's `mld_max_msf`: 64).
    pub max_sources_v6: usize,
    /// Most sources that queries ask for before one answer; if they ask for more, the answer is the whole group's: 64.
    pub max_query_sources: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            robustness: 2,
            query_interval: Duration::from_secs(125),
            unsolicited_report_interval: Duration::from_secs(1),
            older_unsolicited_report_interval: Duration::from_secs(10),
            max_memberships_v4: 20,
            max_memberships_v6: 64,
            max_sources_v4: 10,
            max_sources_v6: 64,
            max_query_sources: 64,
        }
    }
}

/// The version of the protocol that is spoken on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// IGMPv1: nobody says that he leaves.
    Igmpv1,
    /// IGMPv2 or MLDv1: no sources; what one host has reported others do not.
    Older,
    /// IGMPv3 or MLDv2.
    Current,
}

/// A query of any version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The version that it is of.
    pub version: Version,
    /// Which group is asked for; `None` for all.
    pub group: Option<IpAddr>,
    /// The time within which it is to be answered.
    pub max_response: Duration,
    /// The querier's robustness variable, 0 if unknown.
    pub robustness: u8,
    /// The querier's time between general queries, 0 if unknown.
    pub interval: Duration,
    /// The sources that are asked for, none for all.
    pub sources: Vec<IpAddr>,
}

/// The sources of a query, if they are not more than are answered one by one: then the whole group is asked for.
fn asked_sources<const N: usize>(sources: &[[u8; N]], config: &Config) -> Vec<IpAddr>
where
    IpAddr: From<[u8; N]>,
{
    if sources.len() > config.max_query_sources {
        return Vec::new();
    }
    sources.iter().copied().map(IpAddr::from).collect()
}

/// What a received message is to a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// To be answered.
    Query(Query),
    /// Another host listens to the group, and has said so in an older version.
    Report(IpAddr),
    /// Nothing: it is for routers.
    Nothing,
}

/// Something to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// On which interface.
    pub interface: InterfaceId,
    /// What is said.
    pub message: Message,
}

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// This host listens to the group, in an older version.
    Report {
        /// [`Version::Igmpv1`] or [`Version::Older`].
        version: Version,
        /// The group.
        group: IpAddr,
    },
    /// This host leaves the group, in an older version.
    Leave {
        /// The group.
        group: IpAddr,
    },
    /// What this host listens to, in the current version; as many packets as it takes.
    State {
        /// It is about IPv6 groups.
        is_v6: bool,
        /// At least one.
        records: Vec<GroupRecord>,
    },
}

/// A record of a report of the current version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// What it says.
    pub kind: RecordKind,
    /// Of which group.
    pub group: IpAddr,
    /// The sources it says it of.
    pub sources: Vec<IpAddr>,
}

/// Whether membership of the group is told on links at all: not that of the group of all hosts (RFC 3376 6, RFC 3810
/// 6), nor of groups that never leave an interface.
pub fn is_reported(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(v4) => v4 != crate::wire::igmp::ALL_HOSTS,
        IpAddr::V6(v6) => v6 != crate::wire::ndp::ALL_NODES && v6.octets()[1] & 0x0f >= 2,
    }
}

/// Whether every interface listens to the group without having joined it (RFC 1112 4, RFC 4291 2.8).
pub fn is_always_joined(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(v4) => v4 == crate::wire::igmp::ALL_HOSTS,
        IpAddr::V6(v6) => {
            v6 == crate::wire::ndp::ALL_NODES || v6.to_bits() == INTERFACE_LOCAL_ALL_NODES
        }
    }
}

/// ff01::1.
const INTERFACE_LOCAL_ALL_NODES: u128 = 0xff01 << 112 | 1;

/// Distributes records over reports of at most `room` octets of records: `N` is the size of an address, `limit` what a
/// report may count. A record that fits into none is divided; what says which sources are *not* listened to cannot be,
/// and is cut (RFC 3376 4.2.16, RFC 3810 5.2.15).
fn pack<const N: usize>(
    records: &[GroupRecord],
    room: usize,
    octets: impl Fn(IpAddr) -> Option<[u8; N]>,
) -> Vec<Vec<Packed<N>>> {
    use crate::wire::group_record::encoded_len;
    let most_sources = room.saturating_sub(encoded_len(N, 0)) / N;
    let mut reports: Vec<Vec<Packed<N>>> = Vec::new();
    let mut left = 0;
    for record in records {
        let Some(group) = octets(record.group) else {
            continue;
        };
        let all: Vec<[u8; N]> = record.sources.iter().copied().filter_map(&octets).collect();
        let is_exclude = matches!(record.kind, RecordKind::IsExclude | RecordKind::ToExclude);
        let mut parts: Vec<&[[u8; N]]> = if all.is_empty() {
            vec![&[]]
        } else {
            all.chunks(most_sources.max(1)).collect()
        };
        if is_exclude {
            parts.truncate(1);
        }
        for sources in parts {
            let len = encoded_len(N, sources.len());
            let packed = Packed {
                kind: record.kind,
                group,
                sources: sources.to_vec(),
            };
            match reports.last_mut() {
                Some(report) if len <= left && report.len() < usize::from(u16::MAX) => {
                    report.push(packed);
                    left -= len;
                }
                _ => {
                    reports.push(vec![packed]);
                    left = room.saturating_sub(len);
                }
            }
        }
    }
    reports
}

/// A record as it is sent.
struct Packed<const N: usize> {
    kind: RecordKind,
    group: [u8; N],
    sources: Vec<[u8; N]>,
}

impl<const N: usize> Packed<N> {
    fn as_record(&self) -> crate::wire::group_record::Record<'_, N> {
        crate::wire::group_record::Record {
            kind: self.kind,
            group: self.group,
            sources: &self.sources,
        }
    }
}

#[cfg(test)]
mod packet_tests;
