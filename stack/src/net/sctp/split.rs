//! The halves of an association, for two tasks.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::association::SctpAssociation;
use crate::sctp::association::Notification;
use crate::sctp::{SctpMessage, SendOptions};

/// The sending half of an [`SctpAssociation`], made by [`SctpAssociation::split`]. SCTP has no half-closed state: dropping a
/// half changes nothing; when both are gone the association is closed.
#[derive(Debug)]
pub struct SctpSendHalf {
    inner: Arc<SctpAssociation>,
}

/// The receiving half of an [`SctpAssociation`], made by [`SctpAssociation::split`].
#[derive(Debug)]
pub struct SctpReceiveHalf {
    inner: Arc<SctpAssociation>,
}

pub(super) fn split(association: SctpAssociation) -> (SctpSendHalf, SctpReceiveHalf) {
    let inner = Arc::new(association);
    let send = SctpSendHalf {
        inner: Arc::clone(&inner),
    };
    (send, SctpReceiveHalf { inner })
}

/// The halves were of two different associations. Gives both back.
#[derive(Debug)]
pub struct ReuniteError(pub SctpSendHalf, pub SctpReceiveHalf);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tried to reunite halves that are not from the same association")
    }
}

impl std::error::Error for ReuniteError {}

impl SctpSendHalf {
    /// See [`SctpAssociation::send`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn send(&self, message: impl Into<Bytes>, options: SendOptions) -> io::Result<()> {
        self.inner.send(message, options).await
    }

    /// See [`SctpAssociation::try_send`].
    ///
    /// # Errors
    /// As there.
    pub fn try_send(&self, message: impl Into<Bytes>, options: SendOptions) -> io::Result<()> {
        self.inner.try_send(message, options)
    }

    /// See [`SctpAssociation::shutdown`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.inner.shutdown().await
    }

    /// The association.
    pub fn association(&self) -> &SctpAssociation {
        &self.inner
    }

    /// Puts the halves of one association together again.
    ///
    /// # Errors
    /// [`ReuniteError`] when they are halves of two associations.
    pub fn reunite(self, other: SctpReceiveHalf) -> Result<SctpAssociation, ReuniteError> {
        if !Arc::ptr_eq(&self.inner, &other.inner) {
            return Err(ReuniteError(self, other));
        }
        drop(other);
        Ok(Arc::into_inner(self.inner)
            .expect("an association has two halves, and the other is gone"))
    }
}

impl SctpReceiveHalf {
    /// See [`SctpAssociation::recv`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn recv(&self) -> io::Result<Option<SctpMessage>> {
        self.inner.recv().await
    }

    /// See [`SctpAssociation::try_recv`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv(&self) -> io::Result<Option<SctpMessage>> {
        self.inner.try_recv()
    }

    /// See [`SctpAssociation::event`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn event(&self) -> io::Result<Option<Notification>> {
        self.inner.event().await
    }

    /// The association.
    pub fn association(&self) -> &SctpAssociation {
        &self.inner
    }
}
