//! What a file is, before anything is done with it.

use std::fmt;

use wasmtime::Engine;

/// What a file that should be a component turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Component,
    /// A WebAssembly module that was not made into a component.
    CoreModule,
    /// Native code that an engine has precompiled; it is never run.
    Precompiled,
    /// Another ELF file: a program or library.
    Elf,
    /// Text, perhaps WebAssembly text.
    Text,
    Empty,
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "a WebAssembly component",
            Self::CoreModule => "a core WebAssembly module, not a component",
            Self::Precompiled => "precompiled native code, which is never run",
            Self::Elf => "a native program or library",
            Self::Text => "text",
            Self::Empty => "empty",
            Self::Other => "no WebAssembly",
        })
    }
}

impl Kind {
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::Empty,
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Self::Component,
            [0, b'a', b's', b'm', _, _, 0, 0, ..] => Self::CoreModule,
            _ if Engine::detect_precompiled(bytes).is_some() => Self::Precompiled,
            [0x7f, b'E', b'L', b'F', ..] => Self::Elf,
            _ if is_text(bytes) => Self::Text,
            _ => Self::Other,
        }
    }
}

fn is_text(bytes: &[u8]) -> bool {
    let start = bytes.get(..1024).unwrap_or(bytes);
    let text = start.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    !text.is_empty() && start.len() - text.len() < 4 && !text.contains(|c: char| c.is_control() && !c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_first_bytes() {
        for (bytes, kind) in [
            (&b""[..], Kind::Empty),
            (b"\0asm\x0d\0\x01\0", Kind::Component),
            (b"\0asm\x01\0\0\0", Kind::CoreModule),
            (b"\x7fELF\x02\x01\x01\0 more", Kind::Elf),
            (b"(component)", Kind::Text),
            (b"#!/bin/sh\nexit 0\n", Kind::Text),
            (b"\0asm", Kind::Other),
            (b"\x89PNG\r\n\x1a\n", Kind::Other),
        ] {
            assert_eq!(Kind::of(bytes), kind, "{bytes:?}");
        }
    }
}
