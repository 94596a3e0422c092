//! Everything about SCTP that users, tests and scripts vary; the defaults are RFC 9260's (section 16).
//!
//! [`Config`] is a stack's. [`SocketOptions`] are what one socket sets for its associations, in RFC 6458's vocabulary; an
//! association runs with [`SocketOptions::apply`] of both, and can be told otherwise while it lives.

use std::ops::{BitOr, BitOrAssign};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{SocketError, SocketResult};
use crate::sctp::message::SendOptions;
use crate::sctp::path::{HeartbeatSwitch, PathConfig};
use crate::sctp::receive::ReceiveConfig;
use crate::sctp::send::{SchedulerKind, SendConfig};

/// SCTP's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Sending.
    pub send: SendConfig,
    /// Receiving.
    pub receive: ReceiveConfig,
    /// Paths, timeouts and heartbeats.
    pub path: PathConfig,
    /// Streams asked for, outbound. Default 10, as Linux.
    pub outbound_streams: u16,
    /// Streams accepted, inbound. One that nothing arrives on takes no memory. Default 2048.
    pub max_inbound_streams: u16,
    /// Max.Init.Retransmits: how often INIT, and then COOKIE ECHO, are sent again. Default 8.
    pub max_init_retransmits: u32,
    /// The longest T1, however often it was doubled (RFC 6458 8.1.3, `sinit_max_init_timeo`). Default RTO.Max, 60 s.
    pub max_init_timeout: Duration,
    /// Valid.Cookie.Life. Default 60 s.
    pub cookie_life: Duration,
    /// The most by which a peer's Cookie Preservative may lengthen that life (5.2.6). Default 30 s.
    pub max_cookie_increment: Duration,
    /// How long one secret signs cookies; the one before stays valid for as long (5.1.3). Default 10 minutes.
    pub cookie_key_life: Duration,
    /// T5-shutdown-guard: how long a SHUTDOWN may go without its end (9.2); also how long an association that nobody holds
    /// may take to deliver what is queued. Default 5 times RTO.Max, as the RFC recommends: 300 s.
    pub shutdown_guard: Duration,
    /// Notifications that wait to be read; the oldest are dropped beyond, and counted. Default 256.
    pub max_notifications: usize,
}

impl Default for Config {
    fn default() -> Self {
        let path = PathConfig::default();
        Self {
            send: SendConfig::default(),
            receive: ReceiveConfig::default(),
            outbound_streams: 10,
            max_inbound_streams: 2048,
            max_init_retransmits: 8,
            max_init_timeout: path.rto_max,
            cookie_life: Duration::from_secs(60),
            max_cookie_increment: Duration::from_secs(30),
            cookie_key_life: Duration::from_secs(600),
            shutdown_guard: path.rto_max * 5,
            max_notifications: 256,
            path,
        }
    }
}

impl Config {
    /// The window that INIT and INIT ACK announce: 1500 octets at least (3.3.2).
    pub(super) fn initial_rwnd(&self) -> u32 {
        let buffer = u32::try_from(self.receive.buffer).unwrap_or(u32::MAX);
        buffer.max(MIN_RWND)
    }
}

/// The smallest window that INIT and INIT ACK may announce (3.3.2, 3.3.3).
pub(super) const MIN_RWND: u32 = 1500;

/// How associations are set up (RFC 6458 8.1.3, `SCTP_INITMSG`). `None` leaves the stack's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct InitMessage {
    /// Streams asked for, outbound (`sinit_num_ostreams`); at least 1.
    pub outbound_streams: Option<u16>,
    /// Streams accepted, inbound (`sinit_max_instreams`); at least 1.
    pub max_inbound_streams: Option<u16>,
    /// Max.Init.Retransmits (`sinit_max_attempts`).
    pub max_attempts: Option<u32>,
    /// The longest T1 (`sinit_max_init_timeo`).
    pub max_timeout: Option<Duration>,
}

/// The bounds of retransmission timeouts (8.1.1, `SCTP_RTOINFO`). `None` leaves the value as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RtoInfo {
    /// RTO.Initial.
    pub initial: Option<Duration>,
    /// RTO.Min.
    pub min: Option<Duration>,
    /// RTO.Max.
    pub max: Option<Duration>,
}

/// When an association is given up, and how long its cookies live (8.1.2, `SCTP_ASSOCINFO`). `None` leaves the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct AssociationParameters {
    /// Association.Max.Retrans.
    pub max_retrans: Option<u32>,
    /// Valid.Cookie.Life.
    pub cookie_life: Option<Duration>,
}

/// What is done about an address of the peer (8.1.12, `SCTP_PEER_ADDR_PARAMS`). `None` leaves the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PeerAddressParameters {
    /// Whether regular heartbeats are sent (`SPP_HB_ENABLE`, `SPP_HB_DISABLE`).
    pub heartbeat: Option<HeartbeatSwitch>,
    /// HB.interval (`spp_hbinterval`).
    pub heartbeat_interval: Option<Duration>,
    /// Path.Max.Retrans (`spp_pathmaxrxt`).
    pub path_max_retrans: Option<u32>,
    /// PotentiallyFailed.Max.Retrans (`spt_pathpfthld` of `SCTP_PEER_ADDR_THLDS`, RFC 7829 7.2).
    pub pf_max_retrans: Option<u32>,
    /// The largest IP packet to be sent there, whatever the path carries (`spp_pathmtu`); 512 octets at least.
    pub path_mtu: Option<usize>,
}

/// When SACKs are sent (8.1.19, `SCTP_DELAYED_SACK`). `None` leaves the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DelayedSack {
    /// The longest delay (`sack_delay`); at most 500 ms (RFC 9260 6.2).
    pub delay: Option<Duration>,
    /// Packets with DATA for one SACK (`sack_freq`); at least 1, which is no delay at all.
    pub frequency: Option<u32>,
}

/// Which notifications are given (6.2, `SCTP_EVENT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriptions(u8);

impl Subscriptions {
    /// None.
    pub const NONE: Self = Self(0);
    /// What becomes of the association.
    pub const ASSOCIATION: Self = Self(1);
    /// What becomes of the peer's addresses.
    pub const PEER_ADDRESS: Self = Self(2);
    /// Errors that the peer reports.
    pub const REMOTE_ERROR: Self = Self(4);
    /// Messages that could not be delivered.
    pub const SEND_FAILED: Self = Self(8);
    /// The peer has no more to send.
    pub const SHUTDOWN: Self = Self(16);
    /// A message that was being delivered in parts will not end.
    pub const PARTIAL_DELIVERY: Self = Self(32);
    /// Everything sent has been acknowledged.
    pub const SENDER_DRY: Self = Self(64);
    /// Paths become potentially failed, and recover (RFC 7829 7.3).
    pub const POTENTIALLY_FAILED: Self = Self(128);

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These without those of `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl Default for Subscriptions {
    /// All but [`Self::SENDER_DRY`], which comes as often as the sender pauses, and [`Self::POTENTIALLY_FAILED`], which
    /// those who know the states of RFC 9260 do not expect.
    fn default() -> Self {
        Self(0xff)
            .without(Self::SENDER_DRY)
            .without(Self::POTENTIALLY_FAILED)
    }
}

impl BitOr for Subscriptions {
    type Output = Self;
    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

impl BitOrAssign for Subscriptions {
    fn bitor_assign(&mut self, rhs: Self) {
        self.0 |= rhs.0;
    }
}

/// What one socket sets for its associations.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct SocketOptions {
    /// `SCTP_INITMSG`.
    pub init: InitMessage,
    /// `SCTP_RTOINFO`.
    pub rto: RtoInfo,
    /// `SCTP_ASSOCINFO`.
    pub association: AssociationParameters,
    /// `SCTP_PEER_ADDR_PARAMS`, for all addresses of the peer.
    pub peer_address: PeerAddressParameters,
    /// `SCTP_DELAYED_SACK`.
    pub delayed_sack: DelayedSack,
    /// Send small messages at once (`SCTP_NODELAY`). `None`: as [`SendConfig::nodelay`].
    pub nodelay: Option<bool>,
    /// Octets of user data in a chunk at most (`SCTP_MAXSEG`); 0 for no such limit.
    pub maxseg: Option<usize>,
    /// Refuse messages that do not fit one chunk (`SCTP_DISABLE_FRAGMENTS`).
    pub disable_fragments: Option<bool>,
    /// Shut an association down on which no data has moved for so long (`SCTP_AUTOCLOSE`). Default never.
    pub autoclose: Option<Duration>,
    /// Max.Burst, in packets (`SCTP_MAX_BURST`); 0 lifts the limit.
    pub max_burst: Option<u32>,
    /// The order among streams (RFC 8260 4.3.2, `SCTP_STREAM_SCHEDULER`).
    pub scheduler: Option<SchedulerKind>,
    /// What goes with a message that says nothing of its own (`SCTP_DEFAULT_SNDINFO`).
    pub default_send: SendOptions,
    /// Octets of the send buffer (`SO_SNDBUF`).
    pub send_buffer: Option<usize>,
    /// Octets of the receive buffer (`SO_RCVBUF`).
    pub receive_buffer: Option<usize>,
    /// `SCTP_PARTIAL_DELIVERY_POINT`, in octets.
    pub partial_delivery_point: Option<usize>,
    /// `SCTP_EVENT`.
    pub events: Subscriptions,
}

impl SocketOptions {
    /// The configuration that an association of this socket runs with; the stack's own if the options change nothing of
    /// it.
    pub fn apply(&self, config: &Arc<Config>) -> Arc<Config> {
        let mut own = Config::clone(config);
        let Self {
            init,
            rto,
            association,
            peer_address,
            delayed_sack,
            ..
        } = *self;
        set(&mut own.outbound_streams, init.outbound_streams);
        set(&mut own.max_inbound_streams, init.max_inbound_streams);
        set(&mut own.max_init_retransmits, init.max_attempts);
        set(&mut own.max_init_timeout, init.max_timeout);
        rto.apply(&mut own.path);
        association.apply(&mut own);
        peer_address.apply(&mut own.path);
        set(&mut own.path.max_burst, self.max_burst);
        delayed_sack.apply(&mut own.receive);
        set(&mut own.receive.buffer, self.receive_buffer);
        // Half of the buffer, unless told otherwise.
        own.receive.partial_delivery_point =
            match (self.partial_delivery_point, self.receive_buffer) {
                (Some(point), _) => point,
                (None, Some(buffer)) => buffer / 2,
                (None, None) => own.receive.partial_delivery_point,
            };
        set(&mut own.send.buffer, self.send_buffer);
        set(&mut own.send.nodelay, self.nodelay);
        set(&mut own.send.maxseg, self.maxseg);
        set(&mut own.send.disable_fragments, self.disable_fragments);
        set(&mut own.send.scheduler, self.scheduler);
        if own == **config {
            Arc::clone(config)
        } else {
            Arc::new(own)
        }
    }

    /// Whether they make sense with `config`.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) if a value is out of its range.
    pub fn check(&self, config: &Arc<Config>) -> SocketResult<()> {
        let own = self.apply(config);
        let streams = own.outbound_streams > 0 && own.max_inbound_streams > 0;
        if streams && is_sound(&own.path) && is_sound_sack(&own.receive) {
            Ok(())
        } else {
            Err(SocketError::InvalidInput)
        }
    }
}

impl RtoInfo {
    pub(super) fn apply(self, path: &mut PathConfig) {
        set(&mut path.rto_initial, self.initial);
        set(&mut path.rto_min, self.min);
        set(&mut path.rto_max, self.max);
    }
}

impl AssociationParameters {
    pub(super) fn apply(self, config: &mut Config) {
        set(&mut config.path.association_max_retrans, self.max_retrans);
        set(&mut config.cookie_life, self.cookie_life);
    }
}

impl PeerAddressParameters {
    /// What concerns paths that are still to come, too; the rest is each path's own.
    pub(super) fn apply(self, path: &mut PathConfig) {
        set(&mut path.heartbeat_interval, self.heartbeat_interval);
        set(&mut path.path_max_retrans, self.path_max_retrans);
        set(&mut path.pf_max_retrans, self.pf_max_retrans);
    }
}

impl DelayedSack {
    pub(super) fn apply(self, receive: &mut ReceiveConfig) {
        set(&mut receive.sack_delay, self.delay);
        set(&mut receive.sack_frequency, self.frequency);
    }
}

/// `value` becomes `new`, if that is given.
fn set<T>(value: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *value = new;
    }
}

/// RTO.Min is not above RTO.Initial, nor that above RTO.Max, and no timer spins.
pub(super) fn is_sound(path: &PathConfig) -> bool {
    path.rto_min <= path.rto_initial
        && path.rto_initial <= path.rto_max
        && path.rto_initial >= SHORTEST_RTO
        && path.rto_min >= SHORTEST_RTO
}

/// RFC 9260 6.2: SACK.Delay is never above 500 ms.
pub(super) fn is_sound_sack(receive: &ReceiveConfig) -> bool {
    receive.sack_delay <= Duration::from_millis(500) && receive.sack_frequency >= 1
}

/// No timeout is shorter, so that retransmissions to a peer that does not answer cannot spin.
const SHORTEST_RTO: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_section_16() {
        // RFC 9260 16, 9.2 (T5), 6.2 (a SACK for every second packet).
        let config = Config::default();
        let seconds = Duration::from_secs;
        assert_eq!(config.path.rto_initial, seconds(1));
        assert_eq!(config.path.rto_min, seconds(1));
        assert_eq!(config.path.rto_max, seconds(60));
        assert_eq!(config.path.max_burst, 4);
        assert_eq!(config.cookie_life, seconds(60));
        assert_eq!(config.path.association_max_retrans, 10);
        assert_eq!(config.path.path_max_retrans, 5);
        assert_eq!(config.path.pf_max_retrans, 0, "RFC 7829 3.2, 1");
        assert_eq!(config.max_init_retransmits, 8);
        assert_eq!(config.path.heartbeat_interval, seconds(30));
        assert_eq!(config.path.heartbeat_max_burst, 1);
        assert_eq!(config.receive.sack_delay, Duration::from_millis(200));
        assert_eq!(config.receive.sack_frequency, 2);
        assert_eq!(config.shutdown_guard, seconds(300));
    }

    #[test]
    fn options_that_say_nothing_share_the_stacks_configuration() {
        let config = Arc::new(Config::default());
        let own = SocketOptions::default().apply(&config);
        assert!(Arc::ptr_eq(&own, &config));
    }

    #[test]
    fn each_option_changes_its_parameter() {
        let config = Arc::new(Config::default());
        let second = Duration::from_secs(1);
        let options = SocketOptions {
            init: InitMessage {
                outbound_streams: Some(3),
                max_inbound_streams: Some(4),
                max_attempts: Some(2),
                max_timeout: Some(second * 5),
            },
            rto: RtoInfo {
                initial: Some(second * 2),
                min: Some(second / 10),
                max: Some(second * 9),
            },
            association: AssociationParameters {
                max_retrans: Some(7),
                cookie_life: Some(second * 6),
            },
            peer_address: PeerAddressParameters {
                heartbeat_interval: Some(second * 8),
                path_max_retrans: Some(3),
                pf_max_retrans: Some(1),
                ..PeerAddressParameters::default()
            },
            delayed_sack: DelayedSack {
                delay: Some(second / 20),
                frequency: Some(5),
            },
            nodelay: Some(true),
            maxseg: Some(700),
            disable_fragments: Some(true),
            max_burst: Some(9),
            scheduler: Some(SchedulerKind::RoundRobin),
            send_buffer: Some(10_000),
            receive_buffer: Some(20_000),
            ..SocketOptions::default()
        };
        let own = options.apply(&config);
        assert_eq!(options.check(&config), Ok(()));
        let expected = Config {
            outbound_streams: 3,
            max_inbound_streams: 4,
            max_init_retransmits: 2,
            max_init_timeout: second * 5,
            cookie_life: second * 6,
            path: PathConfig {
                rto_initial: second * 2,
                rto_min: second / 10,
                rto_max: second * 9,
                association_max_retrans: 7,
                heartbeat_interval: second * 8,
                path_max_retrans: 3,
                pf_max_retrans: 1,
                max_burst: 9,
                ..PathConfig::default()
            },
            receive: ReceiveConfig {
                sack_delay: second / 20,
                sack_frequency: 5,
                buffer: 20_000,
                partial_delivery_point: 10_000,
            },
            send: SendConfig {
                nodelay: true,
                maxseg: 700,
                disable_fragments: true,
                scheduler: SchedulerKind::RoundRobin,
                buffer: 10_000,
                ..SendConfig::default()
            },
            ..Config::default()
        };
        assert_eq!(*own, expected);
    }

    #[test]
    fn values_out_of_range_are_refused() {
        // RFC 9260 3.3.2 (streams), 6.2 (SACK.Delay), 6.3.1 (the order of the bounds).
        let config = Arc::new(Config::default());
        let delayed = |delay, frequency| SocketOptions {
            delayed_sack: DelayedSack {
                delay: Some(Duration::from_millis(delay)),
                frequency: Some(frequency),
            },
            ..SocketOptions::default()
        };
        let rto = |initial, min, max| SocketOptions {
            rto: RtoInfo {
                initial: Some(Duration::from_millis(initial)),
                min: Some(Duration::from_millis(min)),
                max: Some(Duration::from_millis(max)),
            },
            ..SocketOptions::default()
        };
        let streams = |outbound, inbound| SocketOptions {
            init: InitMessage {
                outbound_streams: Some(outbound),
                max_inbound_streams: Some(inbound),
                ..InitMessage::default()
            },
            ..SocketOptions::default()
        };
        let cases = [
            (delayed(500, 1), true),
            (delayed(501, 1), false),
            (delayed(0, 0), false),
            (rto(100, 100, 100), true),
            (rto(100, 101, 200), false),
            (rto(300, 100, 200), false),
            (rto(0, 0, 200), false),
            (streams(1, 1), true),
            (streams(0, 1), false),
            (streams(1, 0), false),
        ];
        for (options, good) in cases {
            assert_eq!(options.check(&config).is_ok(), good, "{options:?}");
        }
    }

    #[test]
    fn sender_dry_is_told_only_to_those_who_ask() {
        let all = Subscriptions::default();
        assert!(all.contains(Subscriptions::ASSOCIATION | Subscriptions::SEND_FAILED));
        assert!(!all.contains(Subscriptions::SENDER_DRY));
        assert!(!all.contains(Subscriptions::POTENTIALLY_FAILED));
        assert!(!Subscriptions::NONE.contains(Subscriptions::SHUTDOWN));
    }
}
