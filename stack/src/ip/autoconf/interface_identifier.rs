//! Interface identifiers: the lower 64 bits of addresses that a host makes for itself.
//!
//! Owned here: identifiers that tell nothing of the host (RFC 7217), those made of the hardware address (RFC 4291 appendix
//! A), and which are reserved (RFC 5453). Left to others: what to do when somebody else has the address.

use std::net::Ipv6Addr;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tidewire_netdev::MacAddress;

use crate::random::Random;

/// How the identifiers of lasting addresses are made.
#[derive(Clone, PartialEq, Eq)]
pub enum IdentifierKind {
    /// Opaque ones, that of the link-local address included, other for each prefix, that stay the same as long as the secret does (RFC 7217, which RFC 8064 has hosts
    /// use by default; Linux's `addr_gen_mode` 2).
    Opaque {
        /// The secret. `None` takes one from the stack's seed, and without a seed another with each start; a program that
        /// wants the same addresses each time keeps 16 random octets and gives them here.
        secret: Option<[u8; 16]>,
    },
    /// Those made from the interface's hardware address, which can be recognized on every network (RFC 4862 5.5.3, RFC 2464
    /// 4; Linux's `addr_gen_mode` 0).
    Hardware,
}

impl Default for IdentifierKind {
    fn default() -> Self {
        Self::Opaque { secret: None }
    }
}

impl std::fmt::Debug for IdentifierKind {
    // RFC 7217 5: the secret stays one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Opaque { .. } => "Opaque",
            Self::Hardware => "Hardware",
        })
    }
}

/// Makes the identifiers of an interface's lasting addresses.
pub struct IdentifierGenerator {
    hardware: MacAddress,
    secret: Option<[u8; 16]>,
}

impl IdentifierGenerator {
    /// A generator for the interface with that hardware address.
    pub fn new(kind: &IdentifierKind, hardware: MacAddress, random: &mut Random) -> Self {
        let secret = match kind {
            IdentifierKind::Opaque { secret } => Some(secret.unwrap_or_else(|| {
                let (high, low) = (random.next_u64(), random.next_u64());
                (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
            })),
            IdentifierKind::Hardware => None,
        };
        Self { hardware, secret }
    }

    /// The identifier for a prefix of 64 bits, after so many that were others' (DAD_Counter); `None` if there is no other.
    ///
    /// RFC 7217 5: F is HMAC-SHA-256, Net_Iface the hardware address; Network_ID, which is optional, is nothing.
    pub fn identifier(&self, prefix: Ipv6Addr, dad_counter: u32) -> Option<u64> {
        let Some(secret) = &self.secret else {
            return (dad_counter == 0).then(|| modified_eui64(self.hardware));
        };
        let mut function =
            Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        function.update(&prefix.octets()[..8]);
        function.update(&self.hardware.0);
        function.update(&dad_counter.to_be_bytes());
        let output = function.finalize().into_bytes();
        // The least significant bits.
        let last = output.last_chunk::<8>();
        last.map(|octets| u64::from_be_bytes(*octets))
    }
}

impl std::fmt::Debug for IdentifierGenerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdentifierGenerator")
            .field("hardware", &self.hardware)
            .finish_non_exhaustive()
    }
}

/// The identifier that comes from a hardware address (RFC 4291 2.5.1 and appendix A, RFC 2464 4).
pub fn modified_eui64(hardware: MacAddress) -> u64 {
    let [a, b, c, d, e, f] = hardware.0;
    // The "universal" bit is inverted in the identifier.
    u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The address of a prefix of 64 bits and an identifier.
pub fn address_of(prefix: Ipv6Addr, identifier: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.to_bits() >> 64 << 64 | u128::from(identifier))
}

/// Whether the identifier is no host's: those of routers' anycast, proxy mobile IPv6 and subnet anycast addresses, and
/// those that IANA's own numbers make (RFC 5453).
pub const fn is_reserved(identifier: u64) -> bool {
    matches!(
        identifier,
        0 | 0x0200_5eff_fe00_0000..=0x0200_5eff_feff_ffff | 0xfdff_ffff_ffff_ff80..=0xfdff_ffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const HARDWARE: MacAddress = MacAddress([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
    const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0);

    fn opaque(secret: [u8; 16], hardware: MacAddress) -> IdentifierGenerator {
        let kind = IdentifierKind::Opaque {
            secret: Some(secret),
        };
        IdentifierGenerator::new(&kind, hardware, &mut Random::new(Some(1)))
    }

    /// RFC 7217 4: the same as long as all that goes into it is; another as soon as any of that is.
    #[test]
    fn opaque_identifiers_are_stable_and_depend_on_everything() {
        let base = opaque([7; 16], HARDWARE).identifier(PREFIX, 0);
        assert!(base.is_some());
        assert_eq!(opaque([7; 16], HARDWARE).identifier(PREFIX, 0), base);
        let other_prefix = Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 0);
        let all = BTreeSet::from([
            base,
            opaque([8; 16], HARDWARE).identifier(PREFIX, 0),
            opaque([7; 16], MacAddress([2, 0, 0, 0, 0, 1])).identifier(PREFIX, 0),
            opaque([7; 16], HARDWARE).identifier(other_prefix, 0),
            opaque([7; 16], HARDWARE).identifier(PREFIX, 1),
        ]);
        assert_eq!(all.len(), 5);
        // Bits behind the prefix are none of it.
        let with_host = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 5, 6, 7, 8);
        assert_eq!(opaque([7; 16], HARDWARE).identifier(with_host, 0), base);
    }

    /// RFC 7217 5, 7: the secret of a stack comes from its seed, and is not shown.
    #[test]
    fn a_secret_that_is_not_given_comes_from_the_seed() {
        let of_seed = |seed| {
            let mut random = Random::new(Some(seed));
            IdentifierGenerator::new(&IdentifierKind::default(), HARDWARE, &mut random)
                .identifier(PREFIX, 0)
        };
        assert_eq!(of_seed(1), of_seed(1));
        assert_ne!(of_seed(1), of_seed(2));
        let kind = IdentifierKind::Opaque {
            secret: Some([0xab; 16]),
        };
        assert_eq!(format!("{kind:?}"), "Opaque");
    }

    /// RFC 2464 4: the example of the identifier's making.
    #[test]
    fn hardware_identifiers_have_no_second_choice() {
        let mut random = Random::new(Some(1));
        let generator = IdentifierGenerator::new(&IdentifierKind::Hardware, HARDWARE, &mut random);
        assert_eq!(generator.identifier(PREFIX, 0), Some(0x3656_78ff_fe9a_bcde));
        assert_eq!(generator.identifier(PREFIX, 1), None);
        let address = address_of(PREFIX, 0x3656_78ff_fe9a_bcde);
        assert_eq!(address.to_string(), "2001:db8:0:1:3656:78ff:fe9a:bcde");
    }

    /// RFC 5453 and IANA's registry.
    #[test]
    fn reserved_identifiers_are_known() {
        for (identifier, expected) in [
            (0, true),
            (1, false),
            (0x0200_5eff_fdff_ffff, false),
            (0x0200_5eff_fe00_0000, true),
            (0x0200_5eff_fe00_5213, true),
            (0x0200_5eff_feff_ffff, true),
            (0x0200_5eff_ff00_0000, false),
            (0xfdff_ffff_ffff_ff7f, false),
            (0xfdff_ffff_ffff_ff80, true),
            (0xfdff_ffff_ffff_ffff, true),
            (u64::MAX, false),
        ] {
            assert_eq!(is_reserved(identifier), expected, "{identifier:x}");
        }
    }
}
