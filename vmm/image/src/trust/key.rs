//! Public keys in PEM and the signatures they open: ECDSA on P-256 with SHA-256 and Ed25519, as cosign makes them. Knows not
//! what was signed.

use std::fmt;

use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;

/// What stands before the 65 bytes of an uncompressed point on P-256 (RFC 5480 §2: id-ecPublicKey, prime256v1).
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// What stands before the 32 bytes of an Ed25519 key (RFC 8410 §4).
const EDWARDS: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// A key that signatures are checked with.
#[derive(Clone)]
pub(super) struct PublicKey {
    algorithm: &'static dyn VerificationAlgorithm,
    bytes: Vec<u8>,
}

impl PublicKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`.
    pub(super) fn from_pem(text: &[u8]) -> Result<Self, &'static str> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(text)
            .map_err(|_| "no public key in PEM form")?;
        let bytes: &[u8] = key.as_ref();
        if let Some(point) = bytes.strip_prefix(&P256)
            && point.len() == 65
            && point.first() == Some(&4)
        {
            return Ok(Self {
                algorithm: &ECDSA_P256_SHA256_ASN1,
                bytes: point.to_vec(),
            });
        }
        if let Some(point) = bytes.strip_prefix(&EDWARDS)
            && point.len() == 32
        {
            return Ok(Self {
                algorithm: &ED25519,
                bytes: point.to_vec(),
            });
        }
        Err("the public key is neither ECDSA on P-256 nor Ed25519")
    }

    /// Whether this key's owner signed `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.bytes)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", crate::Digest::of(&self.bytes).hex())
    }
}
