//! The users' signing keys. Signing happens in this file and nowhere else.
//!
//! One master secret of 32 random bytes lives in a file that only its owner can read. The Ed25519 seed of a user is
//! `HMAC-SHA256(master, "heliograph/custody/wallet/v1" ‖ 0x00 ‖ user id (16 bytes) ‖ 0x01)`, which is HKDF-Expand (RFC 5869)
//! with a single block: the master secret is uniformly random, so no extraction step is needed. Every user has an own
//! address, nothing per user must be backed up, and losing the file loses all wallets: back it up before anything else.
//!
//! Deliberately not here: deciding whether to sign. The caller holds an approval that passed every check.

use ed25519_dalek::{Signer, SigningKey};
use hmac::{Hmac, Mac};
use rand::TryRngCore;
use sha2::Sha256;
use solana_address::Address;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;
use zeroize::Zeroizing;

const WALLET_LABEL: &[u8] = b"heliograph/custody/wallet/v1\0";
const FINGERPRINT_LABEL: &[u8] = b"heliograph/custody/fingerprint/v1\0";
const SECRET_BYTES: usize = 32;
/// 64 hexadecimal digits and a line end.
const FILE_BYTES_MAX: u64 = 66;

#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    #[error(
        "custody.key_file {0} does not exist; set custody.create = true to make a new one, or restore it from its backup"
    )]
    Missing(PathBuf),
    #[error(
        "custody.key_file {path} can be read by others (mode {mode:03o}); run: chmod 600 {path}"
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("custody.key_file {0} does not hold 64 hexadecimal digits; restore it from its backup")]
    Malformed(PathBuf),
    #[error("custody.key_file {path}: {source}")]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the operating system gives no random bytes: {0}")]
    NoRandomness(String),
}

/// The master secret; wiped from memory when dropped, and never shown by `Debug`.
pub struct Custody {
    master: Zeroizing<[u8; SECRET_BYTES]>,
}

impl std::fmt::Debug for Custody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Custody(..)")
    }
}

impl Custody {
    pub fn from_secret(secret: [u8; SECRET_BYTES]) -> Self {
        Self {
            master: Zeroizing::new(secret),
        }
    }

    /// Reads the master secret; with `create`, makes one (mode 0600, synced to disk) when the file is absent.
    pub fn open(path: &Path, create: bool) -> Result<Self, CustodyError> {
        let io = |source| CustodyError::Io {
            path: path.to_owned(),
            source,
        };
        match File::open(path) {
            Ok(file) => Self::read(path, file),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io(error)),
            Err(_) if !create => Err(CustodyError::Missing(path.to_owned())),
            Err(_) => {
                Self::create(path)?;
                Self::read(path, File::open(path).map_err(io)?)
            }
        }
    }

    fn read(path: &Path, file: File) -> Result<Self, CustodyError> {
        let io = |source| CustodyError::Io {
            path: path.to_owned(),
            source,
        };
        let mode = file.metadata().map_err(io)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(CustodyError::Exposed {
                path: path.to_owned(),
                mode,
            });
        }
        let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX as usize + 1));
        file.take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(io)?;
        let mut master = Zeroizing::new([0; SECRET_BYTES]);
        hex::decode_to_slice(text.trim_end(), master.as_mut_slice())
            .map_err(|_| CustodyError::Malformed(path.to_owned()))?;
        Ok(Self { master })
    }

    fn create(path: &Path) -> Result<(), CustodyError> {
        let io = |source| CustodyError::Io {
            path: path.to_owned(),
            source,
        };
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        rand::rngs::OsRng
            .try_fill_bytes(secret.as_mut_slice())
            .map_err(|error| CustodyError::NoRandomness(error.to_string()))?;
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder).map_err(io)?;
        }
        let text = Zeroizing::new(format!("{}\n", hex::encode(secret.as_slice())));
        // `create_new` fails rather than overwrite a secret that another process made in between; then that one is read.
        match OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
        {
            Ok(mut file) => file
                .write_all(text.as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(io),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(io(error)),
        }
    }

    /// Identifies the master secret without revealing it; stored beside the wallets made from it.
    pub fn fingerprint(&self) -> [u8; 32] {
        *self.expand(FINGERPRINT_LABEL, &[])
    }

    /// The user's address.
    pub fn wallet(&self, user: Uuid) -> Address {
        Address::new_from_array(self.key(user).verifying_key().to_bytes())
    }

    /// Signs message bytes with the user's key. Ed25519 is deterministic: signing again after a crash gives the same bytes.
    pub fn sign(&self, user: Uuid, message: &[u8]) -> [u8; 64] {
        self.key(user).sign(message).to_bytes()
    }

    /// `SigningKey` wipes itself when dropped.
    fn key(&self, user: Uuid) -> SigningKey {
        SigningKey::from_bytes(&self.expand(WALLET_LABEL, user.as_bytes()))
    }

    fn expand(&self, label: &[u8], subject: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.master.as_slice())
            .expect("HMAC takes a key of any length");
        mac.update(label);
        mac.update(subject);
        mac.update(&[1]);
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signature, VerifyingKey};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_user_signs_with_an_own_key() {
        let custody = Custody::from_secret([7; 32]);
        let (ann, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_ne!(custody.wallet(ann), custody.wallet(bob));
        assert_ne!(
            custody.wallet(ann),
            Custody::from_secret([8; 32]).wallet(ann)
        );
        let signature = Signature::from_bytes(&custody.sign(ann, b"message"));
        let key = VerifyingKey::from_bytes(custody.wallet(ann).as_array()).unwrap();
        key.verify_strict(b"message", &signature).unwrap();
        assert!(key.verify_strict(b"massage", &signature).is_err());
    }

    /// Wallets must stay where they are: a change of the derivation would strand every user's money.
    #[test]
    fn the_derivation_never_changes() {
        let custody = Custody::from_secret([7; 32]);
        let mut mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
        mac.update(b"heliograph/custody/wallet/v1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01");
        let seed: [u8; 32] = mac.finalize().into_bytes().into();
        let expected = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        assert_eq!(custody.wallet(Uuid::from_u128(1)).to_bytes(), expected);
    }

    #[test]
    fn the_file_is_made_only_on_request_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/custody.key");
        assert!(matches!(
            Custody::open(&path, false),
            Err(CustodyError::Missing(_))
        ));
        let made = Custody::open(&path, true).unwrap().fingerprint();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            Custody::open(&path, true).unwrap().fingerprint(),
            made,
            "an existing secret is kept"
        );
        assert_eq!(Custody::open(&path, false).unwrap().fingerprint(), made);

        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let error = Custody::open(&path, false).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        for text in [
            "",
            "abc",
            &"0".repeat(63),
            &"0".repeat(66),
            &"zz".repeat(32),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(
                matches!(Custody::open(&path, true), Err(CustodyError::Malformed(_))),
                "{text:?}"
            );
        }
    }
}
