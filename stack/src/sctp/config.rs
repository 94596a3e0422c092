//! Everything about SCTP that users, tests and scripts vary; the defaults are RFC 9260's (section 16).

use std::time::Duration;

use crate::sctp::path::PathConfig;
use crate::sctp::receive::ReceiveConfig;
use crate::sctp::send::SendConfig;

/// SCTP's configuration. RFC 6458's socket options change parts of it for one association.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Sending.
    pub send: SendConfig,
    /// Receiving.
    pub receive: ReceiveConfig,
    /// Paths, timeouts and heartbeats.
    pub path: PathConfig,
    /// Streams asked for, outbound (`SCTP_INITMSG`, `sinit_num_ostreams`). Default 10.
    pub outbound_streams: u16,
    /// Streams accepted, inbound (`sinit_max_instreams`). Default 2048.
    pub max_inbound_streams: u16,
    /// Max.Init.Retransmits: how often INIT and COOKIE ECHO are sent again. Default 8.
    pub max_init_retransmits: u32,
    /// Valid.Cookie.Life. Default 60 s.
    pub cookie_life: Duration,
    /// The most by which a peer's Cookie Preservative may lengthen that life (5.2.6). Default 30 s.
    pub max_cookie_increment: Duration,
    /// How long one secret signs cookies; the one before stays valid for as long (5.1.3). Default 10 minutes.
    pub cookie_key_life: Duration,
    /// T5-shutdown-guard, how long a shutdown may take in all (9.2). Default 5 times RTO.Max, as the RFC recommends.
    pub shutdown_guard: Duration,
    /// Close an association on which no data has moved for so long (`SCTP_AUTOCLOSE`). Default never.
    pub autoclose: Option<Duration>,
    /// Notifications that wait to be read; the oldest are dropped beyond. Default 256.
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
            cookie_life: Duration::from_secs(60),
            max_cookie_increment: Duration::from_secs(30),
            cookie_key_life: Duration::from_secs(600),
            shutdown_guard: path.rto_max * 5,
            autoclose: None,
            max_notifications: 256,
            path,
        }
    }
}
