//! The states of an association (RFC 9260 4), and what each permits.
//!
//! ```text
//!   COOKIE-WAIT ──▶ COOKIE-ECHOED ──▶ ESTABLISHED ◀── a good cookie
//!                                      │       │
//!                      SHUTDOWN asked  │       │ SHUTDOWN received
//!                                      ▼       ▼
//!                     SHUTDOWN-PENDING ──▶ SHUTDOWN-RECEIVED
//!                            │ all acknowledged        │ all acknowledged
//!                            ▼                         ▼
//!                     SHUTDOWN-SENT ─────────▶ SHUTDOWN-ACK-SENT ──▶ (closed)
//! ```

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
    /// The handshake is not over.
    pub const fn is_opening(self) -> bool {
        matches!(self, Self::CookieWait | Self::CookieEchoed)
    }

    /// Both sides know each other, and the end has not come.
    pub const fn is_synchronized(self) -> bool {
        !matches!(self, Self::CookieWait | Self::CookieEchoed | Self::Closed)
    }

    /// Whether DATA may be sent, new or again, and SACKs count (6). In COOKIE-ECHOED some may travel behind the COOKIE ECHO,
    /// see `output`.
    pub(super) const fn may_send_data(self) -> bool {
        matches!(
            self,
            Self::Established | Self::ShutdownPending | Self::ShutdownReceived
        )
    }

    /// Whether DATA is taken (6).
    pub(super) const fn takes_data(self) -> bool {
        matches!(
            self,
            Self::Established | Self::ShutdownPending | Self::ShutdownSent
        )
    }

    /// Whether the peer has said that it sends no more, or cannot any more.
    pub(crate) const fn peer_is_done(self) -> bool {
        matches!(
            self,
            Self::ShutdownReceived | Self::ShutdownAckSent | Self::Closed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::State::*;

    #[test]
    fn data_is_sent_and_taken_in_the_states_of_section_6() {
        // (state, DATA and SACKs sent, DATA taken), RFC 9260 6.
        for (state, sends, takes) in [
            (CookieWait, false, false),
            (CookieEchoed, false, false),
            (Established, true, true),
            (ShutdownPending, true, true),
            (ShutdownSent, false, true),
            (ShutdownReceived, true, false),
            (ShutdownAckSent, false, false),
            (Closed, false, false),
        ] {
            assert_eq!(state.may_send_data(), sends, "{state:?}");
            assert_eq!(state.takes_data(), takes, "{state:?}");
        }
    }
}
