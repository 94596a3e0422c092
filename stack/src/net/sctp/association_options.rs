//! RFC 6458's options of a living association.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use super::association::SctpAssociation;
use crate::error::SocketResult;
use crate::net::options;
use crate::sctp::SendOptions;
use crate::sctp::association::Association;
use crate::sctp::config::{
    AssociationParameters, DelayedSack, PeerAddressParameters, RtoInfo, Subscriptions,
};

impl SctpAssociation {
    fn option<R>(&self, get: impl FnOnce(&Association) -> R) -> R {
        get(&self.io.lock().socket.association)
    }

    /// Changes an option, and lets the stack see what follows from it: timers, and what may be sent now.
    fn set<R>(&self, change: impl FnOnce(&mut Association) -> R) -> R {
        let result = change(&mut self.io.lock().socket.association);
        self.io.kick();
        result
    }

    fn try_set(&self, change: impl FnOnce(&mut Association) -> SocketResult<()>) -> io::Result<()> {
        self.set(change).map_err(io::Error::from)
    }

    /// `SCTP_RTOINFO`: the bounds of retransmission timeouts.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) unless RTO.Min <= RTO.Initial <= RTO.Max.
    pub fn set_rto_info(&self, info: RtoInfo) -> io::Result<()> {
        self.try_set(|association| association.set_rto_info(info))
    }

    /// See [`set_rto_info`](Self::set_rto_info).
    pub fn rto_info(&self) -> RtoInfo {
        self.option(Association::rto_info)
    }

    /// `SCTP_ASSOCINFO`: when the association is given up, and how long its cookies live.
    ///
    /// # Errors
    /// None at present.
    pub fn set_association_parameters(&self, parameters: AssociationParameters) -> io::Result<()> {
        self.try_set(|association| association.set_association_parameters(parameters))
    }

    /// See [`set_association_parameters`](Self::set_association_parameters).
    pub fn association_parameters(&self) -> AssociationParameters {
        self.option(Association::association_parameters)
    }

    /// `SCTP_PEER_ADDR_PARAMS`, of one address of the peer, or of all there are and will be.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for an address that is not the peer's.
    pub fn set_peer_address_parameters(
        &self,
        address: Option<IpAddr>,
        parameters: PeerAddressParameters,
    ) -> io::Result<()> {
        let now = self.io.shared().now();
        let address = address.map(|address| address.to_canonical());
        self.try_set(|association| {
            association.set_peer_address_parameters(now, address, parameters)
        })
    }

    /// See [`set_peer_address_parameters`](Self::set_peer_address_parameters).
    ///
    /// # Errors
    /// As there.
    pub fn peer_address_parameters(&self, address: IpAddr) -> io::Result<PeerAddressParameters> {
        let address = address.to_canonical();
        Ok(self.option(|association| association.peer_address_parameters(address))?)
    }

    /// Sends a HEARTBEAT to an address of the peer at once (`SPP_HB_DEMAND`).
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for an address that is not the peer's.
    pub fn request_heartbeat(&self, address: IpAddr) -> io::Result<()> {
        let now = self.io.shared().now();
        let address = address.to_canonical();
        self.try_set(|association| association.request_heartbeat(now, address))
    }

    /// `SCTP_PRIMARY_ADDR`: the address of the peer that new data is sent to.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for an address that is not the peer's, or not confirmed yet.
    pub fn set_primary_path(&self, address: IpAddr) -> io::Result<()> {
        let address = address.to_canonical();
        self.try_set(|association| association.set_primary_path(address))
    }

    /// `SCTP_DELAYED_SACK`.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for a delay above 500 ms, or a frequency of 0.
    pub fn set_delayed_sack(&self, delayed: DelayedSack) -> io::Result<()> {
        self.try_set(|association| association.set_delayed_sack(delayed))
    }

    /// See [`set_delayed_sack`](Self::set_delayed_sack).
    pub fn delayed_sack(&self) -> DelayedSack {
        self.option(Association::delayed_sack)
    }

    /// `SCTP_NODELAY`: small messages are sent at once, or wait for the acknowledgment of those before them.
    pub fn set_nodelay(&self, nodelay: bool) {
        self.set(|association| association.set_nodelay(nodelay));
    }

    /// See [`set_nodelay`](Self::set_nodelay).
    pub fn nodelay(&self) -> bool {
        self.option(Association::nodelay)
    }

    /// `SCTP_MAXSEG`: octets of user data in a chunk at most; 0 for no such limit.
    pub fn set_maxseg(&self, maxseg: usize) {
        self.set(|association| association.set_maxseg(maxseg));
    }

    /// See [`set_maxseg`](Self::set_maxseg).
    pub fn maxseg(&self) -> usize {
        self.option(Association::maxseg)
    }

    /// `SCTP_DISABLE_FRAGMENTS`: messages that do not fit one packet are refused, or not.
    pub fn set_disable_fragments(&self, disable: bool) {
        self.set(|association| association.set_disable_fragments(disable));
    }

    /// See [`set_disable_fragments`](Self::set_disable_fragments).
    pub fn disable_fragments(&self) -> bool {
        self.option(Association::disable_fragments)
    }

    /// `SCTP_MAX_BURST`, in packets; 0 lifts the limit.
    pub fn set_max_burst(&self, max_burst: u32) {
        self.set(|association| association.set_max_burst(max_burst));
    }

    /// `SO_SNDBUF`, in octets.
    pub fn set_send_buffer_size(&self, octets: usize) {
        self.set(|association| association.set_send_buffer(octets));
    }

    /// `SO_RCVBUF`, in octets. What has arrived stays.
    pub fn set_recv_buffer_size(&self, octets: usize) {
        self.set(|association| association.set_receive_buffer(octets));
    }

    /// `SCTP_PARTIAL_DELIVERY_POINT`, in octets.
    pub fn set_partial_delivery_point(&self, octets: usize) {
        self.set(|association| association.set_partial_delivery_point(octets));
    }

    /// `SCTP_AUTOCLOSE`: the association shuts down when no data has moved for so long.
    pub fn set_autoclose(&self, idle: Option<Duration>) {
        self.set(|association| association.set_autoclose(idle));
    }

    /// See [`set_autoclose`](Self::set_autoclose).
    pub fn autoclose(&self) -> Option<Duration> {
        self.option(Association::autoclose)
    }

    /// `SCTP_DEFAULT_SNDINFO`: what [`send_default`](Self::send_default) sends with.
    pub fn set_default_send(&self, options: SendOptions) {
        self.set(|association| association.set_default_send(options));
    }

    /// See [`set_default_send`](Self::set_default_send).
    pub fn default_send(&self) -> SendOptions {
        self.option(Association::default_send)
    }

    /// `SCTP_EVENT`: which notifications are given from now on.
    pub fn subscribe(&self, events: Subscriptions) {
        self.set(|association| association.subscribe(events));
    }

    /// `SO_LINGER`: how long a dropped association may go on delivering; zero aborts it, `None` leaves it to the stack.
    pub fn set_linger(&self, linger: Option<Duration>) {
        self.io.lock().socket.linger = linger;
    }

    /// See [`set_linger`](Self::set_linger).
    pub fn linger(&self) -> Option<Duration> {
        self.io.lock().socket.linger
    }

    /// TTL, or hop limit, of packets.
    pub fn ttl(&self) -> u32 {
        self.io.lock().socket.ttl.into()
    }

    /// Sets the TTL, or hop limit: 1 to 255.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for 0 and above 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = options::ttl(ttl, self.io.shared())?;
        self.io.lock().socket.ttl = ttl;
        Ok(())
    }
}
