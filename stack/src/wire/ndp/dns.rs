//! DNS options of router advertisements (RFC 8106 5): servers, and domains to search in.
//!
//! ```text
//! +---------------+---------------+-------------------------------+
//! |  25 or 31     |    Length     |           Reserved            |
//! +---------------+---------------+-------------------------------+
//! |  Lifetime, in seconds; all ones: for ever, 0: no more         |
//! +---------------------------------------------------------------+
//! |  25: addresses, 16 octets each                                |
//! |  31: names as in RFC 1035 3.1, uncompressed, then zeros       |
//! +---------------------------------------------------------------+
//! ```

use std::net::Ipv6Addr;

/// Recursive DNS servers (RFC 8106 5.1): at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DnsServers<'a> {
    /// Seconds they may be used; all ones: for ever, 0: no more.
    pub lifetime: u32,
    addresses: &'a [[u8; 16]],
}

impl<'a> DnsServers<'a> {
    /// Reads what is behind an option's type and length; `None` if it is not as RFC 8106 5.3.1 has it: whole addresses,
    /// at least one, and each one host's.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (lifetime, rest) = lifetime(value)?;
        let (addresses, []) = rest.as_chunks::<16>() else {
            return None;
        };
        let servers = Self {
            lifetime,
            addresses,
        };
        let is_host = |address: Ipv6Addr| !address.is_multicast() && !address.is_unspecified();
        (!addresses.is_empty() && servers.addresses().all(is_host)).then_some(servers)
    }

    /// The servers, the one to be asked first first.
    pub fn addresses(self) -> impl Iterator<Item = Ipv6Addr> + Clone + 'a {
        self.addresses.iter().map(|octets| Ipv6Addr::from(*octets))
    }
}

/// Domains in which unqualified names are looked up (RFC 8106 5.2): at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DnsSearchList<'a> {
    /// Seconds they may be used; all ones: for ever, 0: no more.
    pub lifetime: u32,
    /// Checked: see [`Self::parse`].
    names: &'a [u8],
}

impl<'a> DnsSearchList<'a> {
    /// Reads what is behind an option's type and length; `None` if any name is not one.
    ///
    /// Names end up in files and on command lines: letters, digits, hyphens and underscores are all that they are made of.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let (lifetime, names) = lifetime(value)?;
        let mut rest = names;
        let mut count = 0;
        while rest.first().is_some_and(|length| *length != 0) {
            rest = skip_name(rest)?;
            count += 1;
        }
        let is_padding = rest.iter().all(|octet| *octet == 0);
        (count > 0 && is_padding).then_some(Self { lifetime, names })
    }

    /// The domains, without a dot at the end, the one to be tried first first.
    pub fn names(self) -> impl Iterator<Item = String> + 'a {
        let mut rest = self.names;
        std::iter::from_fn(move || {
            let behind = skip_name(rest)?;
            let name = name(&rest[..rest.len() - behind.len()]);
            rest = behind;
            (!name.is_empty()).then_some(name)
        })
    }
}

fn lifetime(value: &[u8]) -> Option<(u32, &[u8])> {
    // Two reserved octets come first.
    let (&[_, _, a, b, c, d], rest) = value.split_first_chunk()?;
    Some((u32::from_be_bytes([a, b, c, d]), rest))
}

/// What is behind the name that `octets` begin with (RFC 1035 3.1, 2.3.4: labels of 63 octets, names of 255 at most).
fn skip_name(octets: &[u8]) -> Option<&[u8]> {
    let mut rest = octets;
    loop {
        let (&length, behind) = rest.split_first()?;
        let (label, behind) = behind.split_at_checked(length.into())?;
        let is_plain = |octet: &u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        if length > MAX_LABEL || !label.iter().all(is_plain) {
            return None;
        }
        rest = behind;
        if octets.len() - rest.len() > MAX_NAME {
            return None;
        }
        if length == 0 {
            return Some(rest);
        }
    }
}

/// The text of a name that [`skip_name`] has walked.
fn name(mut octets: &[u8]) -> String {
    let mut text = String::new();
    while let Some((&length, behind)) = octets.split_first() {
        let Some((label, behind)) = behind.split_at_checked(length.into()) else {
            break;
        };
        if length != 0 && !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|octet| char::from(*octet)));
        octets = behind;
    }
    text
}

const MAX_LABEL: u8 = 63;
const MAX_NAME: usize = 255;
