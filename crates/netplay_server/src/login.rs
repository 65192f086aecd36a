//! JSON Web Tokens: who a player is, as somebody says whom who runs the server trusts.
//!
//! Guaranteed: a token counts only if it is signed with one of the keys, by an algorithm of that key, is not
//! over, names a subject that can be an account, and names the issuer and the audience that are asked for. Not
//! guaranteed: that it is used once, or by whom it was made for: it is a secret as long as it is good.

use core::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Once, PoisonError, RwLock};

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use netplay_protocol::AccountId;
use netplay_protocol::lobby::Jwt;
use ring::{hmac, signature as ring_signature};
use serde::Deserialize;
use thiserror::Error;

/// How far the clocks of who issues tokens and of this machine may be apart, in seconds.
const LEEWAY: u64 = 10;

/// Keys of a file at most: issuers have the current one, the next, and a few of before.
const KEYS_MAX: usize = 64;

/// Bytes of a file of keys at most: 64 of RSA 4096.
const FILE_MAX: u64 = 128 * 1024;

/// Bytes of a shared secret at least: RFC 7518 §3.2 asks for as many as the hash has.
const SECRET_MIN: usize = 32;

/// Which JWTs a server takes.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// With which keys they are signed.
    pub keys: JwtKeys,
    /// Which issuer (`iss`) they must name; without, any.
    pub issuer: Option<String>,
    /// Which audience (`aud`) they must name; without, they may name any.
    pub audience: Option<String>,
}

/// With which keys JWTs are signed.
#[derive(Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// One that the issuer and the server share: HS256, HS384, HS512. 32 bytes at least.
    Secret(Vec<u8>),
    /// A file with a JSON Web Key Set (RFC 7517), as issuers publish it: RS*, PS*, ES256, ES384, EdDSA.
    Jwks(PathBuf),
}

impl fmt::Debug for JwtConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("JwtConfig");
        match &self.keys {
            JwtKeys::Secret(_) => debug.field("secret", &"…"),
            JwtKeys::Jwks(path) => debug.field("jwks", path),
        };
        debug.field("issuer", &self.issuer).field("audience", &self.audience).finish()
    }
}

/// Why keys cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwtError {
    /// The secret is too short.
    #[error("the secret for JWTs has {0} bytes; {SECRET_MIN} at least are needed")]
    Short(usize),
    /// The file cannot be read.
    #[error("the keys for JWTs cannot be read from {path}: {why}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The file has no key that can be used.
    #[error(
        "{path} has no key that signs JWTs (RSA, P-256, P-384 or Ed25519, with \"use\": \"sig\" if any)"
    )]
    NoKey {
        /// Which.
        path: PathBuf,
    },
}

/// A key, and how it may have signed.
struct Key {
    /// How tokens name it.
    id: Option<String>,
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

/// Reads JWTs.
pub(crate) struct Logins {
    keys: RwLock<Vec<Key>>,
    /// Where the keys are from, if they can be read again.
    file: Option<PathBuf>,
    issuer: Option<String>,
    audience: Option<String>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl Logins {
    pub(crate) fn new(config: &JwtConfig) -> Result<Self, JwtError> {
        provide();
        let keys = match &config.keys {
            JwtKeys::Secret(secret) if secret.len() < SECRET_MIN => {
                return Err(JwtError::Short(secret.len()));
            }
            JwtKeys::Secret(secret) => {
                let algorithms = vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
                vec![Key { id: None, key: DecodingKey::from_secret(secret), algorithms }]
            }
            JwtKeys::Jwks(path) => read(path)?,
        };
        let file = match &config.keys {
            JwtKeys::Secret(_) => None,
            JwtKeys::Jwks(path) => Some(path.clone()),
        };
        let JwtConfig { issuer, audience, .. } = config.clone();
        Ok(Self { keys: RwLock::new(keys), file, issuer, audience })
    }

    /// Reads the file again, if the keys are from one; if it cannot be used they stay as they are.
    pub(crate) fn reload(&self) -> Option<Result<(), JwtError>> {
        let keys = read(self.file.as_ref()?);
        Some(keys.map(|keys| *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys))
    }

    /// Who it is, or why it counts for nothing.
    pub(crate) fn account(&self, Jwt(token): &Jwt) -> Result<AccountId, String> {
        let refused = |error: jsonwebtoken::errors::Error| reason(&error);
        let header = decode_header(token).map_err(refused)?;
        let by_id = |key: &&Key| key.id.is_none() || header.kid.is_none() || key.id == header.kid;
        let mut why = "it is signed with a key that this server does not know".to_owned();
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        for key in keys.iter().filter(by_id) {
            if !key.algorithms.contains(&header.alg) {
                continue;
            }
            match decode::<Claims>(token, &key.key, &self.validation(header.alg)) {
                Ok(token) => {
                    return AccountId::new(token.claims.sub).map_err(|error| error.to_string());
                }
                Err(error) => why = reason(&error),
            }
        }
        Err(why)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        match &self.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

/// What a player can do about it; nothing of the token is in it.
fn reason(error: &jsonwebtoken::errors::Error) -> String {
    match error.kind() {
        ErrorKind::ExpiredSignature => "the JWT is too old".into(),
        ErrorKind::ImmatureSignature => "the JWT is not good yet".into(),
        ErrorKind::InvalidSignature => "the JWT is not signed with this server's key".into(),
        ErrorKind::InvalidIssuer => "the JWT is from another issuer".into(),
        ErrorKind::InvalidAudience => "the JWT is for another audience".into(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the JWT has no claim {claim:?}"),
        _ => "that is no JWT".into(),
    }
}

fn read(path: &Path) -> Result<Vec<Key>, JwtError> {
    let unread = |why: String| JwtError::Read { path: path.to_owned(), why };
    let size = std::fs::metadata(path).map_err(|error| unread(error.to_string()))?.len();
    if size > FILE_MAX {
        return Err(unread(format!("{size} bytes are too many, {FILE_MAX} are allowed")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unread(error.to_string()))?;
    let set: JwkSet = serde_json::from_str(&text).map_err(|error| unread(error.to_string()))?;
    let keys: Vec<Key> = set.keys.iter().take(KEYS_MAX).filter_map(usable).collect();
    if keys.is_empty() {
        return Err(JwtError::NoKey { path: path.to_owned() });
    }
    Ok(keys)
}

/// A public key that signs. One that says by which algorithm signs by no other.
fn usable(jwk: &Jwk) -> Option<Key> {
    use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, PublicKeyUse};
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|to| *to != PublicKeyUse::Signature) {
        return None;
    }
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => vec![
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            vec![Algorithm::ES256]
        }
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
            vec![Algorithm::ES384]
        }
        AlgorithmParameters::OctetKeyPair(_) => vec![Algorithm::EdDSA],
        // A secret in a file that is published is none.
        _ => return None,
    };
    if let Some(only) = common.key_algorithm {
        algorithms.retain(|algorithm| only.to_string() == format!("{algorithm:?}"));
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    (!algorithms.is_empty()).then_some(Key { id: common.key_id.clone(), key, algorithms })
}

/// Signatures are checked by ring, which is here for DTLS already; the library would bring another.
fn provide() {
    static ONCE: Once = Once::new();
    static RING: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| Err(ErrorKind::Provider("this one only verifies".into()).into()),
        verifier_factory: |algorithm, key| {
            Ok(Box::new(Ring { algorithm: *algorithm, key: key.clone() }))
        },
        key_utils: KeyUtils::new_unimplemented(),
    };
    ONCE.call_once(|| {
        // A game that has chosen one already keeps it.
        let _ = RING.install_default();
    });
}

struct Ring {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for Ring {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for Ring {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature::Error> {
        self.check(message, signed).map_err(|_| signature::Error::new())
    }
}

impl Ring {
    fn check(&self, message: &[u8], signed: &[u8]) -> JwtResult<()> {
        use ring_signature as by;
        let rsa: &by::RsaParameters = match self.algorithm {
            Algorithm::HS256 => return self.check_mac(hmac::HMAC_SHA256, message, signed),
            Algorithm::HS384 => return self.check_mac(hmac::HMAC_SHA384, message, signed),
            Algorithm::HS512 => return self.check_mac(hmac::HMAC_SHA512, message, signed),
            Algorithm::ES256 => {
                return self.check_key(&by::ECDSA_P256_SHA256_FIXED, message, signed);
            }
            Algorithm::ES384 => {
                return self.check_key(&by::ECDSA_P384_SHA384_FIXED, message, signed);
            }
            Algorithm::EdDSA => return self.check_key(&by::ED25519, message, signed),
            Algorithm::RS256 => &by::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RS384 => &by::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::RS512 => &by::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::PS256 => &by::RSA_PSS_2048_8192_SHA256,
            Algorithm::PS384 => &by::RSA_PSS_2048_8192_SHA384,
            Algorithm::PS512 => &by::RSA_PSS_2048_8192_SHA512,
            _ => return Err(ErrorKind::UnsupportedAlgorithm.into()),
        };
        let jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, e } = self.key.kind() else {
            return Err(ErrorKind::InvalidKeyFormat.into());
        };
        let key = by::RsaPublicKeyComponents { n, e };
        key.verify(rsa, message, signed).map_err(|_| ErrorKind::InvalidSignature.into())
    }

    fn check_mac(&self, by: hmac::Algorithm, message: &[u8], signed: &[u8]) -> JwtResult<()> {
        if self.key.family() != AlgorithmFamily::Hmac {
            return Err(ErrorKind::InvalidKeyFormat.into());
        }
        let key = hmac::Key::new(by, self.key.try_get_as_bytes()?);
        hmac::verify(&key, message, signed).map_err(|_| ErrorKind::InvalidSignature.into())
    }

    fn check_key(
        &self,
        by: &'static dyn ring_signature::VerificationAlgorithm,
        message: &[u8],
        signed: &[u8],
    ) -> JwtResult<()> {
        if self.key.family() == AlgorithmFamily::Hmac {
            return Err(ErrorKind::InvalidKeyFormat.into());
        }
        // ring wants a point of a curve with the byte that says that it is not compressed; so the library has it.
        let key = ring_signature::UnparsedPublicKey::new(by, self.key.try_get_as_bytes()?);
        key.verify(message, signed).map_err(|_| ErrorKind::InvalidSignature.into())
    }
}

#[cfg(test)]
mod tests;
