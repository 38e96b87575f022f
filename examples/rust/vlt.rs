//! The part of vlt.h that the example needs, and a safe wrapper around it.

use std::ffi::{c_void, CStr, CString};
use std::mem::size_of;
use std::os::raw::c_char;
use std::ptr;

const ABI_VERSION: i32 = 1; // of the declarations below
const OK: i32 = 0;
const OUTPUT_EMBEDDING: i32 = 2;

// The structs may end early: a library takes the fields that a shorter one lacks for zero.

#[repr(C)]
#[derive(Default)]
struct ModelInfo {
    struct_size: u32,
    device_type: i32,
    compute_type: i32,
    num_layers: i32,
    hidden_size: i32,
    num_heads: i32,
    head_size: i32,
    intermediate_size: i32,
    vocab_size: i32,
    num_token_types: i32,
    max_length: i32,
    embedding_size: i32,
}

#[repr(C)]
struct PackedBatch {
    struct_size: u32,
    num_sequences: i32,
    num_tokens: i64,
    token_ids: *const i32,       // [T]
    sequence_starts: *const i32, // [S + 1]
}

#[repr(C)]
struct Output {
    struct_size: u32,
    kind: i32,
    dtype: i32,
    data: *mut c_void,
    bytes: u64,
}

#[link(name = "vlt")]
extern "C" {
    fn vlt_abi_version() -> i32;
    fn vlt_last_error() -> *const c_char;
    fn vlt_model_load(
        path: *const c_char,
        options: *const c_void,
        out_model: *mut *mut c_void,
    ) -> i32;
    fn vlt_model_get_info(model: *const c_void, info: *mut ModelInfo) -> i32;
    fn vlt_model_free(model: *mut c_void);
    fn vlt_session_create(
        model: *mut c_void,
        options: *const c_void,
        out_session: *mut *mut c_void,
    ) -> i32;
    fn vlt_session_free(session: *mut c_void);
    fn vlt_run(
        session: *mut c_void,
        batch: *const PackedBatch,
        outputs: *const Output,
        num_outputs: i32,
    ) -> i32;
}

fn check(status: i32) -> Result<(), String> {
    if status == OK {
        return Ok(());
    }
    // Never NULL, and this thread's own until its next failure.
    let explanation = unsafe { CStr::from_ptr(vlt_last_error()) };
    Err(explanation.to_string_lossy().into_owned())
}

fn struct_size<T>() -> u32 {
    size_of::<T>() as u32
}

/// Owned, and freed on every way out.
struct Model(*mut c_void);

impl Drop for Model {
    fn drop(&mut self) {
        unsafe { vlt_model_free(self.0) }
    }
}

/// A model with a session of its own; `&mut self` keeps it to one thread at a time.
pub struct Encoder {
    session: *mut c_void,
    embedding_size: usize,
}

impl Encoder {
    pub fn load(path: &str) -> Result<Encoder, String> {
        if unsafe { vlt_abi_version() } != ABI_VERSION {
            return Err("libvlt.so has another ABI than vlt.rs".to_string());
        }
        let path = CString::new(path).map_err(|error| error.to_string())?;
        let mut model = Model(ptr::null_mut());
        check(unsafe { vlt_model_load(path.as_ptr(), ptr::null(), &mut model.0) })?;
        let mut info = ModelInfo {
            struct_size: struct_size::<ModelInfo>(),
            ..Default::default()
        };
        check(unsafe { vlt_model_get_info(model.0, &mut info) })?;
        let mut session = ptr::null_mut();
        // The session keeps what it needs of the model.
        check(unsafe { vlt_session_create(model.0, ptr::null(), &mut session) })?;
        Ok(Encoder {
            session,
            embedding_size: info.embedding_size as usize,
        })
    }

    /// One vector a sequence.
    pub fn embed(&mut self, sequences: &[Vec<i32>]) -> Result<Vec<Vec<f32>>, String> {
        let ids = sequences.concat();
        let mut starts = vec![0];
        for sequence in sequences {
            starts.push(starts[starts.len() - 1] + sequence.len() as i32);
        }
        let mut vectors = vec![0f32; sequences.len() * self.embedding_size];
        let batch = PackedBatch {
            struct_size: struct_size::<PackedBatch>(),
            num_sequences: sequences.len() as i32,
            num_tokens: ids.len() as i64,
            token_ids: ids.as_ptr(),
            sequence_starts: starts.as_ptr(),
        };
        let output = Output {
            struct_size: struct_size::<Output>(),
            kind: OUTPUT_EMBEDDING,
            dtype: 0,
            data: vectors.as_mut_ptr().cast(),
            bytes: (vectors.len() * size_of::<f32>()) as u64,
        };
        check(unsafe { vlt_run(self.session, &batch, &output, 1) })?;
        Ok(vectors
            .chunks(self.embedding_size)
            .map(<[f32]>::to_vec)
            .collect())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        unsafe { vlt_session_free(self.session) }
    }
}
