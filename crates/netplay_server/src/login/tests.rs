use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

fn token(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Jwt {
    let message = format!("{}.{}", part(header), part(claims));
    let signed = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    Jwt(format!("{message}.{signed}"))
}

fn by_secret(secret: &[u8]) -> impl FnOnce(&[u8]) -> Vec<u8> {
    move |message| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        hmac::sign(&key, message).as_ref().to_vec()
    }
}

fn hs256(claims: &Value) -> Jwt {
    token(&json!({"alg": "HS256", "typ": "JWT"}), claims, by_secret(SECRET))
}

fn in_a_minute() -> u64 {
    jsonwebtoken::get_current_timestamp() + 60
}

fn claims() -> Value {
    json!({"sub": "ann", "exp": in_a_minute(), "iss": "https://id.example", "aud": "game"})
}

fn logins(keys: JwtKeys) -> Logins {
    let issuer = Some("https://id.example".to_owned());
    Logins::new(&JwtConfig { keys, issuer, audience: Some("game".to_owned()) }).unwrap()
}

fn shared() -> Logins {
    logins(JwtKeys::Secret(SECRET.to_vec()))
}

#[test]
fn a_token_that_is_signed_by_the_shared_secret_says_who_it_is() {
    assert_eq!(shared().account(&hs256(&claims())).unwrap().as_str(), "ann");
}

#[test]
fn every_claim_that_is_asked_for_must_be_there_and_right() {
    let change = |name: &str, to: Option<Value>| {
        let mut claims = claims();
        match to {
            Some(to) => claims[name] = to,
            None => drop(claims.as_object_mut().unwrap().remove(name)),
        }
        shared().account(&hs256(&claims)).unwrap_err()
    };
    let now = jsonwebtoken::get_current_timestamp();
    assert!(change("exp", Some((now - 60).into())).contains("too old"));
    assert!(change("nbf", Some((now + 60).into())).contains("not good yet"));
    assert!(change("iss", Some("https://else.example".into())).contains("another issuer"));
    assert!(change("aud", Some("another".into())).contains("another audience"));
    for name in ["exp", "iss", "aud"] {
        assert!(change(name, None).contains(name), "{name}");
    }
    for wrong in
        [None, Some("".into()), Some("a\nb".into()), Some("x".repeat(200).into()), Some(7.into())]
    {
        change("sub", wrong);
    }
}

#[test]
fn who_does_not_have_the_key_makes_no_token() {
    let header = json!({"alg": "HS256"});
    let other = token(&header, &claims(), by_secret(b"another secret of thirty-two bytes"));
    assert!(shared().account(&other).unwrap_err().contains("not signed"));
    let none = Jwt(format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims())));
    shared().account(&none).unwrap_err();
    for text in ["", ".", "..", "a.b.c", "é.é.é"] {
        shared().account(&Jwt(text.into())).unwrap_err();
    }
    let Jwt(good) = hs256(&claims());
    for cut in 0..good.len() {
        shared().account(&Jwt(good[..cut].into())).unwrap_err();
    }
}

fn file(name: &str, keys: &Value) -> PathBuf {
    let path = std::env::temp_dir().join(format!("netplay-jwks-{name}-{}", std::process::id()));
    std::fs::write(&path, keys.to_string()).unwrap();
    path
}

fn from_file(name: &str, keys: &Value) -> Result<Logins, JwtError> {
    let path = file(name, keys);
    let config = JwtConfig { keys: JwtKeys::Jwks(path.clone()), issuer: None, audience: None };
    let logins = Logins::new(&config);
    std::fs::remove_file(path).unwrap();
    logins
}

#[test]
fn a_set_of_keys_is_used_by_their_ids_and_algorithms() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let p256 = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random)
        .unwrap();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let ed25519 = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let point = p256.public_key().as_ref();
    let (x, y) = (&point[1..33], &point[33..]);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let keys = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "kid": "a", "use": "sig", "x": encode(x), "y": encode(y)},
        {"kty": "OKP", "crv": "Ed25519", "kid": "b", "x": encode(ed25519.public_key().as_ref())},
        {"kty": "oct", "kid": "c", "k": encode(SECRET)},
    ]});
    let logins = from_file("set", &keys).unwrap();
    let es256 = |kid: &str| {
        token(&json!({"alg": "ES256", "kid": kid}), &claims(), |message| {
            p256.sign(&random, message).unwrap().as_ref().to_vec()
        })
    };
    let eddsa = |kid: &str| {
        token(&json!({"alg": "EdDSA", "kid": kid}), &claims(), |message| {
            ed25519.sign(message).as_ref().to_vec()
        })
    };
    assert_eq!(logins.account(&es256("a")).unwrap().as_str(), "ann");
    assert_eq!(logins.account(&eddsa("b")).unwrap().as_str(), "ann");
    logins.account(&es256("b")).unwrap_err();
    logins.account(&eddsa("z")).unwrap_err();
    let secret = token(&json!({"alg": "HS256", "kid": "c"}), &claims(), by_secret(SECRET));
    logins.account(&secret).unwrap_err();
    // A public key is no secret that somebody shares.
    let confused = token(&json!({"alg": "HS256", "kid": "a"}), &claims(), by_secret(point));
    logins.account(&confused).unwrap_err();
}

#[test]
fn keys_that_are_exchanged_count_once_their_file_is_read_again() {
    let random = SystemRandom::new();
    let pairs = [(); 2].map(|()| {
        Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref())
            .unwrap()
    });
    let set = |pair: &Ed25519KeyPair| {
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]})
    };
    let signed = |pair: &Ed25519KeyPair| {
        token(&json!({"alg": "EdDSA"}), &claims(), |message| pair.sign(message).as_ref().to_vec())
    };
    let [old, new] = &pairs;
    let path = file("exchanged", &set(old));
    let config = JwtConfig { keys: JwtKeys::Jwks(path.clone()), issuer: None, audience: None };
    let logins = Logins::new(&config).unwrap();
    file("exchanged", &set(new));
    logins.account(&signed(old)).unwrap();
    logins.reload().unwrap().unwrap();
    logins.account(&signed(new)).unwrap();
    logins.account(&signed(old)).unwrap_err();
    // What cannot be used changes nothing.
    file("exchanged", &json!({"keys": []}));
    assert!(matches!(logins.reload(), Some(Err(JwtError::NoKey { .. }))));
    logins.account(&signed(new)).unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(shared().reload().is_none(), "a secret is given, not read");
}

#[test]
fn a_signature_by_rsa_is_checked() {
    // The key and the signature of RFC 7515, appendix A.2; its claims name no subject.
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-\
             yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-\
             KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_\
             h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    let message = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS\
                   9pc19yb290Ijp0cnVlfQ";
    let signed = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGb\
                  ds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0G\
                  arZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6Lbg\
                  GY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let keys = json!({"keys": [{"kty": "RSA", "e": "AQAB", "n": n}]});
    let logins = from_file("rsa", &keys).unwrap();
    let why = logins.account(&Jwt(format!("{message}.{signed}"))).unwrap_err();
    assert!(!why.contains("not signed"), "{why}");
    let forged = signed.replacen("cC4h", "cC4i", 1);
    let why = logins.account(&Jwt(format!("{message}.{forged}"))).unwrap_err();
    assert!(why.contains("not signed"), "{why}");
}

#[test]
fn keys_that_cannot_be_used_are_refused_with_what_is_wrong() {
    let short = JwtConfig { keys: JwtKeys::Secret(vec![1; 31]), issuer: None, audience: None };
    assert!(matches!(Logins::new(&short), Err(JwtError::Short(31))));
    let missing = JwtKeys::Jwks(std::env::temp_dir().join("netplay-no-such-file"));
    let missing = JwtConfig { keys: missing, issuer: None, audience: None };
    assert!(matches!(Logins::new(&missing), Err(JwtError::Read { .. })));
    assert!(matches!(from_file("text", &json!("no set")), Err(JwtError::Read { .. })));
    assert!(matches!(from_file("none", &json!({"keys": []})), Err(JwtError::NoKey { .. })));
    let encrypts = json!({"keys": [{"kty": "RSA", "use": "enc", "e": "AQAB", "n": "AQAB"}]});
    assert!(matches!(from_file("enc", &encrypts), Err(JwtError::NoKey { .. })));
    let shown = format!("{:?}", JwtConfig { keys: JwtKeys::Secret(SECRET.to_vec()), ..short });
    assert!(!shown.contains("48") && !shown.contains("0123"), "{shown}");
}
