//! What can be set about paths; the defaults are RFC 9260's (section 16).

use std::time::Duration;

use crate::transport::congestion::CongestionControl;
use crate::transport::rtt::{LowerBound, RtoBounds};

/// Configuration of an association's paths. RFC 6458's `SCTP_RTOINFO`, `SCTP_ASSOCINFO`, `SCTP_PEER_ADDR_PARAMS` and
/// `SCTP_MAX_BURST` change it for one association.
#[derive(Clone, Debug, PartialEq)]
pub struct PathConfig {
    /// RTO.Initial: before the first measurement. Default 1 s.
    pub rto_initial: Duration,
    /// RTO.Min: lower bound of the whole RTO (RFC 9260 6.3.1 C6). Default 1 s.
    pub rto_min: Duration,
    /// RTO.Max (6.3.1 C7). Default 60 s.
    pub rto_max: Duration,
    /// Path.Max.Retrans: errors in a row that make a path inactive when exceeded (8.2). Default 5.
    pub path_max_retrans: u32,
    /// PotentiallyFailed.Max.Retrans: errors in a row that make a path potentially failed when exceeded, so that data goes
    /// to another one long before the path counts as inactive (RFC 7829 3.2). A path is never potentially failed with
    /// Path.Max.Retrans or more, as in RFC 9260 alone, or while it is the only one. Default 0, as the RFC recommends and
    /// as Linux does it (`net.sctp.pf_enable` 1, `net.sctp.pf_retrans` 0).
    pub pf_max_retrans: u32,
    /// Association.Max.Retrans: errors in a row, over all paths, that end the association when exceeded (8.1). Default 10.
    pub association_max_retrans: u32,
    /// HB.interval: added to the RTO between heartbeats on an idle path (8.3). Default 30 s.
    pub heartbeat_interval: Duration,
    /// HB.Max.Burst: heartbeats sent per RTO at most to addresses that are not confirmed, all of them together (5.4).
    /// Default 1.
    pub heartbeat_max_burst: u32,
    /// Max.Burst: packets of new data per occasion to send (6.1 D); 0 lifts the limit. Default 4.
    pub max_burst: u32,
    /// Congestion controller of each path. Default NewReno, which for SCTP is RFC 9260 7.2.
    pub congestion_control: CongestionControl,
    /// Paths at most; further addresses of the peer are not used. Default 64, which is also the most that can be set.
    pub max_paths: usize,
}

impl PathConfig {
    pub(super) fn rto_bounds(&self) -> RtoBounds {
        RtoBounds {
            initial: self.rto_initial,
            min: LowerBound::Whole(self.rto_min),
            max: self.rto_max,
        }
    }
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            rto_initial: Duration::from_secs(1),
            rto_min: Duration::from_secs(1),
            rto_max: Duration::from_secs(60),
            path_max_retrans: 5,
            pf_max_retrans: 0,
            association_max_retrans: 10,
            heartbeat_interval: Duration::from_secs(30),
            heartbeat_max_burst: 1,
            max_burst: 4,
            congestion_control: CongestionControl::NewReno,
            max_paths: 64,
        }
    }
}
