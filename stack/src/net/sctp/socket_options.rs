//! RFC 6458's options of a one-to-many socket: for one association, for all, for those to come.

use std::io;
use std::net::IpAddr;

use super::socket::SctpSocket;
use crate::engine::sctp_one_to_many::AssociationId;
use crate::error::{SocketError, SocketResult};
use crate::sctp::SocketOption;
use crate::sctp::association::Association;
use crate::sctp::config::SocketOptions;

/// Which associations an option is set for (RFC 6458 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionScope {
    /// One.
    One(AssociationId),
    /// Those that there are (`SCTP_CURRENT_ASSOC`).
    Current,
    /// Those to come (`SCTP_FUTURE_ASSOC`).
    Future,
    /// Those that there are and those to come (`SCTP_ALL_ASSOC`).
    All,
}

impl From<AssociationId> for OptionScope {
    fn from(id: AssociationId) -> Self {
        Self::One(id)
    }
}

impl SctpSocket {
    /// Sets an option. [`SocketOption::Init`] is for associations to come only: of [`OptionScope::All`] it means those.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) for values out of range, for an identifier of no association, and for an address that is not
    /// the peer's. Nothing is changed then, unless it is one of several associations that refuses.
    pub fn set_option(
        &self,
        scope: impl Into<OptionScope>,
        option: SocketOption,
    ) -> io::Result<()> {
        let scope = scope.into();
        if matches!(scope, OptionScope::Future | OptionScope::All) {
            self.set_future(&option)?;
        }
        let ids = match scope {
            OptionScope::One(id) => return self.set_current(id, &option),
            OptionScope::Future => return Ok(()),
            OptionScope::All if matches!(option, SocketOption::Init(_)) => return Ok(()),
            OptionScope::Current | OptionScope::All => self.associations(),
        };
        let mut result = Ok(());
        for id in ids {
            // One that has ended meanwhile is none of these any more.
            if self.status(id).is_ok() {
                result = result.and(self.set_current(id, &option));
            }
        }
        result
    }

    fn set_future(&self, option: &SocketOption) -> SocketResult<()> {
        let config = self.io.shared().engine().sctp_config();
        let socket = &mut self.endpoint.lock().socket;
        let mut options = socket.options.socket.clone();
        option.apply(&mut options)?;
        options.check(config)?;
        socket.set_options(config, options);
        Ok(())
    }

    fn set_current(&self, id: AssociationId, option: &SocketOption) -> io::Result<()> {
        let now = self.io.shared().now();
        self.change(id, |association| association.set_option(now, option))
    }

    fn change(
        &self,
        id: AssociationId,
        change: impl FnOnce(&mut Association) -> SocketResult<()>,
    ) -> io::Result<()> {
        let association = self.member(id, SocketError::InvalidInput)?;
        let result = change(&mut association.lock().socket.association);
        // Timers, and what may be sent by it.
        association.kick();
        Ok(result?)
    }

    /// The options that an association runs with.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) if the socket has no such association.
    pub fn options(&self, id: AssociationId) -> io::Result<SocketOptions> {
        let association = self.member(id, SocketError::InvalidInput)?;
        let state = association.lock();
        Ok(state.socket.association.options_in_force())
    }

    /// What associations to come begin with.
    pub fn future_options(&self) -> SocketOptions {
        self.endpoint.lock().socket.options.socket.clone()
    }

    /// `SCTP_PRIMARY_ADDR`: the address of a peer that new data is sent to.
    ///
    /// # Errors
    /// `InvalidInput` (EINVAL) if the socket has no such association, for an address that is not the peer's, or not confirmed
    /// yet.
    pub fn set_primary_path(&self, id: AssociationId, address: IpAddr) -> io::Result<()> {
        let address = address.to_canonical();
        self.change(id, |association| association.set_primary_path(address))
    }
}
