//! The file system that is not there. Standard libraries import it even if the handler opens nothing. There is no
//! preopened directory, so a guest can hold no descriptor and none of these functions can be reached; they refuse
//! nevertheless, and there is no code behind them that knows how to open a file.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream,
    ErrorCode, Filesize, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{FsError, FsResult};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream};

use super::super::instance::Host;

impl preopens::Host for Host {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.account.enter(0)?;
        Ok(Vec::new())
    }
}

impl types::Host for Host {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, _error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.account.enter(0)?;
        Ok(None)
    }
}

macro_rules! refuse {
    ($($(#[$kind:ident])? $name:ident($($arg:ident: $of:ty),*) -> $out:ty;)*) => {
        $(refuse!(@one $($kind)? $name($($arg: $of),*) -> $out);)*
    };
    (@one now $name:ident($($arg:ident: $of:ty),*) -> $out:ty) => {
        fn $name(&mut self, _of: Resource<Descriptor>, $($arg: $of),*) -> FsResult<$out> {
            Err(ErrorCode::Access.into())
        }
    };
    (@one $name:ident($($arg:ident: $of:ty),*) -> $out:ty) => {
        async fn $name(&mut self, _of: Resource<Descriptor>, $($arg: $of),*) -> FsResult<$out> {
            Err(ErrorCode::Access.into())
        }
    };
}

impl types::HostDescriptor for Host {
    refuse! {
        advise(_offset: Filesize, _len: Filesize, _advice: Advice) -> ();
        sync_data() -> ();
        get_flags() -> DescriptorFlags;
        get_type() -> DescriptorType;
        set_size(_size: Filesize) -> ();
        set_times(_accessed: NewTimestamp, _modified: NewTimestamp) -> ();
        read(_len: Filesize, _offset: Filesize) -> (Vec<u8>, bool);
        write(_data: Vec<u8>, _offset: Filesize) -> Filesize;
        read_directory() -> Resource<DirectoryEntryStream>;
        sync() -> ();
        create_directory_at(_path: String) -> ();
        stat() -> DescriptorStat;
        stat_at(_flags: PathFlags, _path: String) -> DescriptorStat;
        set_times_at(_flags: PathFlags, _path: String, _accessed: NewTimestamp, _modified: NewTimestamp) -> ();
        link_at(_flags: PathFlags, _path: String, _to: Resource<Descriptor>, _new: String) -> ();
        open_at(_flags: PathFlags, _path: String, _open: OpenFlags, _as: DescriptorFlags) -> Resource<Descriptor>;
        readlink_at(_path: String) -> String;
        remove_directory_at(_path: String) -> ();
        rename_at(_path: String, _to: Resource<Descriptor>, _new: String) -> ();
        symlink_at(_path: String, _new: String) -> ();
        unlink_file_at(_path: String) -> ();
        metadata_hash() -> MetadataHashValue;
        metadata_hash_at(_flags: PathFlags, _path: String) -> MetadataHashValue;
        #[now] read_via_stream(_offset: Filesize) -> Resource<DynInputStream>;
        #[now] write_via_stream(_offset: Filesize) -> Resource<DynOutputStream>;
        #[now] append_via_stream() -> Resource<DynOutputStream>;
    }

    async fn is_same_object(&mut self, _a: Resource<Descriptor>, _b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        Ok(false)
    }

    fn drop(&mut self, of: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.table.delete(of)?;
        Ok(())
    }
}

impl types::HostDirectoryEntryStream for Host {
    async fn read_directory_entry(&mut self, _of: Resource<DirectoryEntryStream>) -> FsResult<Option<DirectoryEntry>> {
        Err(ErrorCode::Access.into())
    }

    fn drop(&mut self, of: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(of)?;
        Ok(())
    }
}
