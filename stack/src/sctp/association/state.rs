//! The states of an association (RFC 9260 4).

/// A state. CLOSED before an association exists is nobody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// INIT is sent.
    CookieWait,
    /// COOKIE ECHO is sent.
    CookieEchoed,
    /// Data flows.
    Established,
    /// The user has asked for the end; data is still on its way.
    ShutdownPending,
    /// SHUTDOWN is sent.
    ShutdownSent,
    /// SHUTDOWN has come; data is still on its way.
    ShutdownReceived,
    /// SHUTDOWN ACK is sent.
    ShutdownAckSent,
    /// The end.
    Closed,
}

impl State {
    /// Whether the user may queue messages.
    pub(super) const fn may_queue(self) -> bool {
        matches!(
            self,
            Self::CookieWait | Self::CookieEchoed | Self::Established
        )
    }

    /// Whether DATA may be sent, new or again (6, 9.2). In COOKIE-ECHOED only behind the COOKIE ECHO, see `output`.
    pub(super) const fn may_send_data(self) -> bool {
        matches!(
            self,
            Self::Established | Self::ShutdownPending | Self::ShutdownReceived
        )
    }

    /// Whether DATA is taken (9.2).
    pub(super) const fn takes_data(self) -> bool {
        matches!(
            self,
            Self::Established | Self::ShutdownPending | Self::ShutdownSent
        )
    }

    /// Whether the peer sends no more.
    pub(super) const fn peer_is_done(self) -> bool {
        matches!(
            self,
            Self::ShutdownReceived | Self::ShutdownAckSent | Self::Closed
        )
    }

    /// Whether the handshake is over and the end has not come.
    pub(super) const fn is_synchronized(self) -> bool {
        !matches!(self, Self::CookieWait | Self::CookieEchoed | Self::Closed)
    }
}
