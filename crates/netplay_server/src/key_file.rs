//! The key with which a server signs resume tokens, kept in a file so that the next start of the server
//! has the same.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use netplay_lobby::Key;
use thiserror::Error;

/// Why there is no key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("the key file {} cannot be used: {error}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is something else.
    #[error(
        "{} is no key file: it should be 64 hexadecimal digits; delete it, and a new one is made",
        path.display()
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
}

/// Where the key of this user's server is kept if nothing else is said: in the directory that systemd
/// gives, or in `netplay-server` of the user's state directory. `None` if there is no such place.
pub fn default_path() -> Option<PathBuf> {
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state =
        || absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let windows = || absolute("LOCALAPPDATA");
    let directory = absolute("STATE_DIRECTORY")
        .or_else(|| Some(state().or_else(windows)?.join("netplay-server")))?;
    Some(directory.join("key"))
}

/// Reads the key in this file. If there is no file, makes a key and the file, which only the user may
/// read.
///
/// # Errors
/// [`KeyError`], which names the file.
pub fn load_or_create(path: &Path) -> Result<Key, KeyError> {
    let failed = |error| KeyError::File { path: path.to_owned(), error };
    match fs::read_to_string(path) {
        Ok(text) => parse(&text).ok_or_else(|| KeyError::Malformed { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(|error| failed(io::Error::other(error)))?;
            let key = Key(bytes);
            match create(path, &render(&key)) {
                // Another server was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load_or_create(path),
                result => result.map(|()| key).map_err(failed),
            }
        }
        Err(error) => Err(failed(error)),
    }
}

fn create(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)?.write_all(text.as_bytes())
}

fn render(key: &Key) -> String {
    key.0.iter().map(|byte| format!("{byte:02x}")).chain(["\n".to_owned()]).collect()
}

fn parse(text: &str) -> Option<Key> {
    let text = text.trim();
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (i, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(Key(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = env::temp_dir().join(format!("netplay-key-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        directory
    }

    #[test]
    fn a_key_is_made_once_and_only_its_user_may_read_it() {
        let directory = directory("made");
        let path = directory.join("deep/key");
        let key = load_or_create(&path).unwrap();
        assert_eq!(load_or_create(&path).unwrap(), key);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn what_is_no_key_is_named_and_not_overwritten() {
        let directory = directory("none");
        let path = directory.join("key");
        fs::create_dir_all(&directory).unwrap();
        for text in ["", "secret", &"é".repeat(32), &"g".repeat(64)] {
            fs::write(&path, text).unwrap();
            let error = load_or_create(&path).unwrap_err().to_string();
            assert!(error.contains("no key file"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert!(matches!(load_or_create(&directory), Err(KeyError::File { .. })));
        fs::remove_dir_all(&directory).unwrap();
    }
}
