//! RFC 6458's socket options of a living association: what can be changed, and what is in force.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{SocketError, SocketResult};
use crate::sctp::association::Association;
use crate::sctp::config::{
    AssociationParameters, Config, DelayedSack, PeerAddressParameters, RtoInfo, SocketOptions,
    Subscriptions, is_sound, is_sound_sack,
};
use crate::sctp::message::SendOptions;
use crate::sctp::path::{HeartbeatSwitch, PathId};
use crate::time::Instant;

impl Association {
    /// The options as they were given and changed since.
    pub fn options(&self) -> &SocketOptions {
        &self.options
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes the configuration, and with `apply` the parts that run by it. Refused if it does not make sense.
    fn change(&mut self, how: impl FnOnce(&mut Config)) -> SocketResult<()> {
        let mut changed = Config::clone(&self.config);
        how(&mut changed);
        if !is_sound(&changed.path) || !is_sound_sack(&changed.receive) {
            return Err(SocketError::InvalidInput);
        }
        if changed.path != self.config.path {
            self.paths.set_config(changed.path.clone());
        }
        if changed.send != self.config.send {
            self.sender.set_config(changed.send.clone());
        }
        if changed.receive != self.config.receive {
            self.receiver.set_config(&changed.receive);
        }
        self.config = Arc::new(changed);
        self.dirty = true;
        Ok(())
    }

    /// `SCTP_RTOINFO`: the bounds of retransmission timeouts, of all paths.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) unless RTO.Min <= RTO.Initial <= RTO.Max.
    pub fn set_rto_info(&mut self, info: RtoInfo) -> SocketResult<()> {
        self.change(|config| info.apply(&mut config.path))
    }

    /// See [`Self::set_rto_info`].
    pub fn rto_info(&self) -> RtoInfo {
        let path = &self.config.path;
        RtoInfo {
            initial: Some(path.rto_initial),
            min: Some(path.rto_min),
            max: Some(path.rto_max),
        }
    }

    /// `SCTP_ASSOCINFO`: when the association is given up, and how long its cookies live.
    ///
    /// # Errors
    /// None yet; for the sake of values that later options add.
    pub fn set_association_parameters(
        &mut self,
        parameters: AssociationParameters,
    ) -> SocketResult<()> {
        self.change(|config| parameters.apply(config))
    }

    /// See [`Self::set_association_parameters`].
    pub fn association_parameters(&self) -> AssociationParameters {
        AssociationParameters {
            max_retrans: Some(self.config.path.association_max_retrans),
            cookie_life: Some(self.config.cookie_life),
        }
    }

    /// `SCTP_PEER_ADDR_PARAMS`, of one address of the peer, or of all there are and will be.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for an address that is not the peer's.
    pub fn set_peer_address_parameters(
        &mut self,
        now: Instant,
        address: Option<IpAddr>,
        parameters: PeerAddressParameters,
    ) -> SocketResult<()> {
        let paths: Vec<PathId> = match address {
            Some(address) => vec![self.path_to(address)?],
            None => self.paths.ids().collect(),
        };
        if address.is_none() {
            let defaults = &mut self.options.peer_address;
            if parameters.heartbeat.is_some() {
                defaults.heartbeat = parameters.heartbeat;
            }
            if parameters.path_mtu.is_some() {
                defaults.path_mtu = parameters.path_mtu;
            }
            self.change(|config| parameters.apply(&mut config.path))?;
        }
        for id in paths {
            if let Some(switch) = parameters.heartbeat {
                self.paths.set_heartbeat(now, id, switch);
            }
            if let Some(interval) = parameters.heartbeat_interval {
                self.paths.set_heartbeat_interval(now, id, interval);
            }
            if let Some(max) = parameters.path_max_retrans {
                self.paths.get_mut(id).set_max_retrans(max);
            }
            if let Some(max) = parameters.pf_max_retrans {
                self.paths.get_mut(id).set_pf_max_retrans(max);
            }
            if let Some(limit) = parameters.path_mtu {
                self.paths.limit_mtu(id, limit);
            }
        }
        self.dirty = true;
        Ok(())
    }

    /// See [`Self::set_peer_address_parameters`].
    ///
    /// # Errors
    /// As there.
    pub fn peer_address_parameters(&self, address: IpAddr) -> SocketResult<PeerAddressParameters> {
        let id = self.path_to(address)?;
        let path = self.paths.get(id);
        Ok(PeerAddressParameters {
            heartbeat: Some(self.paths.heartbeat(id)),
            heartbeat_interval: Some(self.paths.heartbeat_interval(id)),
            path_max_retrans: Some(path.max_retrans()),
            pf_max_retrans: Some(path.pf_max_retrans()),
            path_mtu: Some(path.mtu()),
        })
    }

    /// Sends a HEARTBEAT to an address of the peer at once (`SPP_HB_DEMAND`, RFC 9260 8.3 D).
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for an address that is not the peer's.
    pub fn request_heartbeat(&mut self, now: Instant, address: IpAddr) -> SocketResult<()> {
        let id = self.path_to(address)?;
        self.paths.request_heartbeat(now, id);
        self.dirty = true;
        Ok(())
    }

    /// `SCTP_PRIMARY_ADDR`: the address that new data is sent to.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for an address that is not the peer's, or not confirmed yet (RFC 9260 5.4).
    pub fn set_primary_path(&mut self, address: IpAddr) -> SocketResult<()> {
        let id = self.path_to(address)?;
        if self.paths.set_primary(id) {
            self.dirty = true;
            Ok(())
        } else {
            Err(SocketError::InvalidInput)
        }
    }

    fn path_to(&self, address: IpAddr) -> SocketResult<PathId> {
        self.paths.find(address).ok_or(SocketError::InvalidInput)
    }

    /// `SCTP_DELAYED_SACK`.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for a delay above 500 ms (RFC 9260 6.2), or a frequency of 0.
    pub fn set_delayed_sack(&mut self, delayed: DelayedSack) -> SocketResult<()> {
        self.change(|config| delayed.apply(&mut config.receive))
    }

    /// See [`Self::set_delayed_sack`].
    pub fn delayed_sack(&self) -> DelayedSack {
        DelayedSack {
            delay: Some(self.config.receive.sack_delay),
            frequency: Some(self.config.receive.sack_frequency),
        }
    }

    /// `SCTP_NODELAY`: small messages are sent at once, or not.
    pub fn set_nodelay(&mut self, nodelay: bool) {
        self.change_sending(|config| config.send.nodelay = nodelay);
    }

    /// See [`Self::set_nodelay`].
    pub fn nodelay(&self) -> bool {
        self.config.send.nodelay
    }

    /// `SCTP_MAXSEG`: octets of user data in a chunk at most; 0 for no such limit.
    pub fn set_maxseg(&mut self, maxseg: usize) {
        self.change_sending(|config| config.send.maxseg = maxseg);
    }

    /// See [`Self::set_maxseg`].
    pub fn maxseg(&self) -> usize {
        self.config.send.maxseg
    }

    /// `SCTP_DISABLE_FRAGMENTS`: messages that do not fit a chunk are refused, or not.
    pub fn set_disable_fragments(&mut self, disable: bool) {
        self.change_sending(|config| config.send.disable_fragments = disable);
    }

    /// See [`Self::set_disable_fragments`].
    pub fn disable_fragments(&self) -> bool {
        self.config.send.disable_fragments
    }

    /// `SCTP_MAX_BURST`, in packets; 0 lifts the limit.
    pub fn set_max_burst(&mut self, max_burst: u32) {
        self.change_sending(|config| config.path.max_burst = max_burst);
    }

    /// `SO_SNDBUF`, in octets.
    pub fn set_send_buffer(&mut self, octets: usize) {
        self.change_sending(|config| config.send.buffer = octets);
        self.tell_room();
    }

    /// `SO_RCVBUF`, in octets. What has arrived stays.
    pub fn set_receive_buffer(&mut self, octets: usize) {
        self.change_sending(|config| config.receive.buffer = octets);
    }

    /// `SCTP_PARTIAL_DELIVERY_POINT`, in octets.
    pub fn set_partial_delivery_point(&mut self, octets: usize) {
        self.change_sending(|config| config.receive.partial_delivery_point = octets);
    }

    /// A change that is never refused.
    fn change_sending(&mut self, how: impl FnOnce(&mut Config)) {
        let changed = self.change(how);
        debug_assert!(changed.is_ok(), "no bound of timeouts has changed");
    }

    /// `SCTP_AUTOCLOSE`: the association shuts down when no data has moved for so long.
    pub fn set_autoclose(&mut self, idle: Option<Duration>) {
        self.options.autoclose = idle;
    }

    /// See [`Self::set_autoclose`].
    pub fn autoclose(&self) -> Option<Duration> {
        self.options.autoclose
    }

    /// `SCTP_DEFAULT_SNDINFO`: what goes with a message that says nothing of its own. Kept for the socket.
    pub fn set_default_send(&mut self, options: SendOptions) {
        self.options.default_send = options;
    }

    /// See [`Self::set_default_send`].
    pub fn default_send(&self) -> SendOptions {
        self.options.default_send
    }

    /// `SCTP_EVENT`: which notifications are given from now on.
    pub fn subscribe(&mut self, events: Subscriptions) {
        self.options.events = events;
        self.events.subscribe(events);
    }

    /// Turns the heartbeats of all paths on or off.
    pub fn set_heartbeats(&mut self, now: Instant, switch: HeartbeatSwitch) {
        let parameters = PeerAddressParameters {
            heartbeat: Some(switch),
            ..PeerAddressParameters::default()
        };
        let changed = self.set_peer_address_parameters(now, None, parameters);
        debug_assert!(changed.is_ok(), "no address was named");
    }
}
