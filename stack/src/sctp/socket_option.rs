//! RFC 6458's options as values, for sockets of many associations: one value is set for one of them, for all, or for those
//! to come.

use std::net::IpAddr;
use std::time::Duration;

use crate::error::{SocketError, SocketResult};
use crate::sctp::association::Association;
use crate::sctp::config::{
    AssociationParameters, DelayedSack, InitMessage, PeerAddressParameters, RtoInfo, SocketOptions,
    Subscriptions,
};
use crate::sctp::message::SendOptions;
use crate::time::Instant;

/// An option with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SocketOption {
    /// `SCTP_INITMSG`. Means nothing to an association that there is already.
    Init(InitMessage),
    /// `SCTP_RTOINFO`.
    Rto(RtoInfo),
    /// `SCTP_ASSOCINFO`.
    Association(AssociationParameters),
    /// `SCTP_PEER_ADDR_PARAMS`.
    PeerAddress {
        /// One address of the peer; `None` for all that there are and will be.
        address: Option<IpAddr>,
        /// The values.
        parameters: PeerAddressParameters,
    },
    /// `SCTP_DELAYED_SACK`.
    DelayedSack(DelayedSack),
    /// `SCTP_NODELAY`: small messages are sent at once.
    Nodelay(bool),
    /// `SCTP_MAXSEG`: octets of user data in a chunk at most; 0 for no such limit.
    Maxseg(usize),
    /// `SCTP_DISABLE_FRAGMENTS`: messages that do not fit one packet are refused.
    DisableFragments(bool),
    /// `SCTP_AUTOCLOSE`: shut down when no data has moved for so long; `None` for never.
    Autoclose(Option<Duration>),
    /// `SCTP_MAX_BURST`, in packets; 0 lifts the limit.
    MaxBurst(u32),
    /// `SCTP_DEFAULT_SNDINFO`.
    DefaultSend(SendOptions),
    /// `SO_SNDBUF` of an association, in octets.
    SendBuffer(usize),
    /// `SO_RCVBUF` of an association, in octets.
    ReceiveBuffer(usize),
    /// `SCTP_PARTIAL_DELIVERY_POINT`, in octets.
    PartialDeliveryPoint(usize),
    /// `SCTP_EVENT`.
    Events(Subscriptions),
}

impl SocketOption {
    /// Sets the option for associations to come. What a value leaves open stays.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for one address of a peer that is not there yet.
    pub fn apply(&self, options: &mut SocketOptions) -> SocketResult<()> {
        match *self {
            Self::Init(new) => options.init = new.or(options.init),
            Self::Rto(new) => options.rto = new.or(options.rto),
            Self::Association(new) => options.association = new.or(options.association),
            Self::PeerAddress {
                address: Some(_), ..
            } => return Err(SocketError::InvalidInput),
            Self::PeerAddress {
                address: None,
                parameters,
            } => options.peer_address = parameters.or(options.peer_address),
            Self::DelayedSack(new) => options.delayed_sack = new.or(options.delayed_sack),
            Self::Nodelay(nodelay) => options.nodelay = Some(nodelay),
            Self::Maxseg(octets) => options.maxseg = Some(octets),
            Self::DisableFragments(disable) => options.disable_fragments = Some(disable),
            Self::Autoclose(idle) => options.autoclose = idle,
            Self::MaxBurst(packets) => options.max_burst = Some(packets),
            Self::DefaultSend(send) => options.default_send = send,
            Self::SendBuffer(octets) => options.send_buffer = Some(octets),
            Self::ReceiveBuffer(octets) => options.receive_buffer = Some(octets),
            Self::PartialDeliveryPoint(octets) => options.partial_delivery_point = Some(octets),
            Self::Events(events) => options.events = events,
        }
        Ok(())
    }
}

impl InitMessage {
    fn or(self, old: Self) -> Self {
        Self {
            outbound_streams: self.outbound_streams.or(old.outbound_streams),
            max_inbound_streams: self.max_inbound_streams.or(old.max_inbound_streams),
            max_attempts: self.max_attempts.or(old.max_attempts),
            max_timeout: self.max_timeout.or(old.max_timeout),
        }
    }
}

impl RtoInfo {
    fn or(self, old: Self) -> Self {
        Self {
            initial: self.initial.or(old.initial),
            min: self.min.or(old.min),
            max: self.max.or(old.max),
        }
    }
}

impl AssociationParameters {
    fn or(self, old: Self) -> Self {
        Self {
            max_retrans: self.max_retrans.or(old.max_retrans),
            cookie_life: self.cookie_life.or(old.cookie_life),
        }
    }
}

impl PeerAddressParameters {
    fn or(self, old: Self) -> Self {
        Self {
            heartbeat: self.heartbeat.or(old.heartbeat),
            heartbeat_interval: self.heartbeat_interval.or(old.heartbeat_interval),
            path_max_retrans: self.path_max_retrans.or(old.path_max_retrans),
            pf_max_retrans: self.pf_max_retrans.or(old.pf_max_retrans),
            path_mtu: self.path_mtu.or(old.path_mtu),
        }
    }
}

impl DelayedSack {
    fn or(self, old: Self) -> Self {
        Self {
            delay: self.delay.or(old.delay),
            frequency: self.frequency.or(old.frequency),
        }
    }
}

impl Association {
    /// Sets an option.
    ///
    /// # Errors
    /// As the method of the same name; `InvalidInput` (EINVAL) for [`SocketOption::Init`].
    pub fn set_option(&mut self, now: Instant, option: &SocketOption) -> SocketResult<()> {
        match *option {
            SocketOption::Init(_) => return Err(SocketError::InvalidInput),
            SocketOption::Rto(info) => return self.set_rto_info(info),
            SocketOption::Association(parameters) => {
                return self.set_association_parameters(parameters);
            }
            SocketOption::PeerAddress {
                address,
                parameters,
            } => {
                let address = address.map(|address| address.to_canonical());
                return self.set_peer_address_parameters(now, address, parameters);
            }
            SocketOption::DelayedSack(delayed) => return self.set_delayed_sack(delayed),
            SocketOption::Nodelay(nodelay) => self.set_nodelay(nodelay),
            SocketOption::Maxseg(octets) => self.set_maxseg(octets),
            SocketOption::DisableFragments(disable) => self.set_disable_fragments(disable),
            SocketOption::Autoclose(idle) => self.set_autoclose(idle),
            SocketOption::MaxBurst(packets) => self.set_max_burst(packets),
            SocketOption::DefaultSend(send) => self.set_default_send(send),
            SocketOption::SendBuffer(octets) => self.set_send_buffer(octets),
            SocketOption::ReceiveBuffer(octets) => self.set_receive_buffer(octets),
            SocketOption::PartialDeliveryPoint(octets) => self.set_partial_delivery_point(octets),
            SocketOption::Events(events) => self.subscribe(events),
        }
        Ok(())
    }

    /// Every option that [`SocketOption`] knows, with the value in force.
    pub fn options_in_force(&self) -> SocketOptions {
        let config = self.config();
        SocketOptions {
            init: InitMessage {
                outbound_streams: Some(config.outbound_streams),
                max_inbound_streams: Some(config.max_inbound_streams),
                max_attempts: Some(config.max_init_retransmits),
                max_timeout: Some(config.max_init_timeout),
            },
            rto: self.rto_info(),
            association: self.association_parameters(),
            peer_address: PeerAddressParameters {
                heartbeat_interval: Some(config.path.heartbeat_interval),
                path_max_retrans: Some(config.path.path_max_retrans),
                ..self.options().peer_address
            },
            delayed_sack: self.delayed_sack(),
            nodelay: Some(self.nodelay()),
            maxseg: Some(self.maxseg()),
            disable_fragments: Some(self.disable_fragments()),
            autoclose: self.autoclose(),
            max_burst: Some(config.path.max_burst),
            scheduler: Some(config.send.scheduler),
            default_send: self.default_send(),
            send_buffer: Some(config.send.buffer),
            receive_buffer: Some(config.receive.buffer),
            partial_delivery_point: Some(config.receive.partial_delivery_point),
            events: self.options().events,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_leaves_what_it_does_not_name() {
        // RFC 6458 8.1.1: 0, here `None`, leaves the value as it is.
        let mut options = SocketOptions::default();
        let rto = |min, max| {
            SocketOption::Rto(RtoInfo {
                initial: None,
                min,
                max,
            })
        };
        let (one, two) = (Duration::from_secs(1), Duration::from_secs(2));
        rto(Some(one), None).apply(&mut options).unwrap();
        rto(None, Some(two)).apply(&mut options).unwrap();
        assert_eq!(
            options.rto,
            RtoInfo {
                initial: None,
                min: Some(one),
                max: Some(two)
            }
        );
    }

    #[test]
    fn one_address_of_no_peer_is_refused() {
        let mut options = SocketOptions::default();
        let option = SocketOption::PeerAddress {
            address: Some(IpAddr::from([10, 0, 0, 1])),
            parameters: PeerAddressParameters::default(),
        };
        assert_eq!(option.apply(&mut options), Err(SocketError::InvalidInput));
        assert_eq!(options, SocketOptions::default());
    }
}
