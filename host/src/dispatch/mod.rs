//! Makes things happen at our own pace.
