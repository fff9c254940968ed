//! Randomness of the operating system, in bounded portions.

use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};

use super::super::instance::Host;
use super::super::limits::Stop;

/// Random bytes of one call.
const BYTES_MAX: u64 = 64 << 10;

/// Bytes drawn at once, some 50 µs: a kernel that does not interrupt itself keeps the processor for all of a call.
const PART_BYTES: usize = 16 << 10;

impl Host {
    fn random_bytes(&mut self, asked: u64) -> wasmtime::Result<Vec<u8>> {
        let bytes = usize::try_from(asked.min(BYTES_MAX)).unwrap_or(0);
        self.account.enter(bytes)?;
        if asked > BYTES_MAX {
            return Err(Stop::Random { asked, max: BYTES_MAX }.into());
        }
        let mut buffer = vec![0; bytes];
        for (index, part) in buffer.chunks_mut(PART_BYTES).enumerate() {
            if index > 0 {
                std::thread::yield_now();
            }
            getrandom::fill(part).map_err(failed)?;
        }
        Ok(buffer)
    }

    fn random_u64(&mut self) -> wasmtime::Result<u64> {
        self.account.enter(8)?;
        getrandom::u64().map_err(failed)
    }
}

impl random::Host for Host {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_u64()
    }
}

impl insecure::Host for Host {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_u64()
    }
}

impl insecure_seed::Host for Host {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random_u64()?, self.random_u64()?))
    }
}

fn failed(error: getrandom::Error) -> wasmtime::Error {
    wasmtime::Error::msg(error.to_string())
}
