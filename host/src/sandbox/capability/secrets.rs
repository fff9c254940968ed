//! Secrets from the manifest: used without being seen, or seen if the manifest says so.

use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::super::bindings::secrets::{self, SecretError};
use super::super::instance::Host;
use super::super::text;
use crate::model::spec::SecretSpec;

impl Host {
    pub(super) fn secret(&self, name: &str) -> Option<&SecretSpec> {
        self.consumer.grants.secrets.as_ref().and_then(|secrets| secrets.get(name))
    }

    fn no_secret(&mut self, name: &str) -> SecretError {
        let name = text::safe(name, 256);
        self.refuse(format!("secret '{name}' is not granted: name it under grants.secrets"));
        SecretError::NotGranted(name)
    }
}

impl secrets::Host for Host {
    fn hmac_sha256(&mut self, name: String, message: Vec<u8>) -> wasmtime::Result<Result<Vec<u8>, SecretError>> {
        self.account.enter(name.len() + message.len())?;
        let Some(secret) = self.secret(&name) else { return Ok(Err(self.no_secret(&name))) };
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.value.expose().as_bytes()).map_err(wasmtime::Error::new)?;
        mac.update(&message);
        Ok(Ok(mac.finalize().into_bytes().to_vec()))
    }

    fn reveal(&mut self, name: String) -> wasmtime::Result<Result<String, SecretError>> {
        self.account.enter(name.len())?;
        match self.secret(&name) {
            Some(secret) if secret.reveal => Ok(Ok(secret.value.expose().to_owned())),
            Some(_) => {
                self.refuse(format!(
                    "secret '{name}' may be used but not seen: the manifest does not say reveal: true"
                ));
                Ok(Err(SecretError::NotRevealable(name)))
            }
            None => Ok(Err(self.no_secret(&name))),
        }
    }
}
