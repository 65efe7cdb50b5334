//! Signatures of an identity provider's tokens, verified by `ring`.
//!
//! Why here: jsonwebtoken parses and judges tokens, and leaves the arithmetic to whom the program chooses; `ring` is in it for TLS
//! already. Secrets that are shared (HS256) sign nothing here, so that nobody takes a public key for one. Route in: an algorithm
//! and a key of the provider. Route out: a verifier.

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use signature::{Error, Verifier};

/// What the provider may sign with.
pub const ALGORITHMS: [Algorithm; 7] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

static PROVIDER: CryptoProvider = CryptoProvider {
    // Nothing is signed here.
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| match kind(*algorithm) {
        Some(kind) => Ok(Box::new(ByRing { algorithm: *algorithm, kind, key: key.clone() })),
        None => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `ring` verify, in this process.
pub fn install() {
    // Another call was first: with the same.
    let _ = PROVIDER.install_default();
}

enum Kind {
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

fn kind(algorithm: Algorithm) -> Option<Kind> {
    Some(match algorithm {
        Algorithm::RS256 => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Kind::Rsa(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Kind::Rsa(&RSA_PSS_2048_8192_SHA256),
        Algorithm::ES256 => Kind::Other(&ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Kind::Other(&ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Kind::Other(&ED25519),
        _ => return None,
    })
}

struct ByRing {
    algorithm: Algorithm,
    kind: Kind,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), Error> {
        // A key of another family is not taken for one of this.
        if self.key.family() != self.algorithm.family() {
            return Err(Error::new());
        }
        match (&self.kind, self.key.kind()) {
            (Kind::Rsa(parameters), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (Kind::Other(algorithm), DecodingKeyKind::SecretOrDer(bytes)) => {
                UnparsedPublicKey::new(*algorithm, bytes).verify(message, signature)
            }
            _ => return Err(Error::new()),
        }
        .map_err(|_| Error::new())
    }
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
