package main

/*
#cgo LDFLAGS: -lvlt
#include <stdlib.h>
#include <vlt.h>

static int32_t header_abi_version(void) { return VLT_ABI_VERSION; }

// Go may not hand C a struct that points to Go's memory, so the structs are made here.

static vlt_status embedding_size(const vlt_model* model, int32_t* out_size) {
  vlt_model_info info = {0};
  info.struct_size = sizeof(info);
  const vlt_status status = vlt_model_get_info(model, &info);
  if (status == VLT_OK) *out_size = info.embedding_size;
  return status;
}

static vlt_status embed(vlt_session* session, const int32_t* ids, int64_t num_tokens,
                        const int32_t* starts, int32_t num_sequences, float* vectors,
                        uint64_t bytes) {
  vlt_packed_batch batch = {0};
  batch.struct_size = sizeof(batch);
  batch.num_sequences = num_sequences;
  batch.num_tokens = num_tokens;
  batch.token_ids = ids;
  batch.sequence_starts = starts;
  vlt_output output = {0};
  output.struct_size = sizeof(output);
  output.kind = VLT_OUTPUT_EMBEDDING;
  output.data = vectors;
  output.bytes = bytes;
  return vlt_run(session, &batch, &output, 1);
}
*/
import "C"

import (
	"errors"
	"runtime"
	"unsafe"
)

// Encoder is a model with a session of its own: one goroutine at a time.
type Encoder struct {
	session       *C.vlt_session
	embeddingSize int
}

// check makes a call and an error of its status. The explanation is that of a thread, and a
// goroutine may go on on another.
func check(call func() C.vlt_status) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if call() != C.VLT_OK {
		return errors.New(C.GoString(C.vlt_last_error()))
	}
	return nil
}

// LoadEncoder reads a weights file. Close the encoder after use.
func LoadEncoder(path string) (*Encoder, error) {
	if C.vlt_abi_version() != C.header_abi_version() {
		return nil, errors.New("libvlt.so has another ABI than vlt.h")
	}
	cPath := C.CString(path)
	defer C.free(unsafe.Pointer(cPath))
	var model *C.vlt_model
	err := check(func() C.vlt_status { return C.vlt_model_load(cPath, nil, &model) })
	if err != nil {
		return nil, err
	}
	defer C.vlt_model_free(model) // the session keeps what it needs
	var size C.int32_t
	err = check(func() C.vlt_status { return C.embedding_size(model, &size) })
	if err != nil {
		return nil, err
	}
	var session *C.vlt_session
	err = check(func() C.vlt_status { return C.vlt_session_create(model, nil, &session) })
	if err != nil {
		return nil, err
	}
	return &Encoder{session, int(size)}, nil
}

// Close frees the encoder.
func (e *Encoder) Close() {
	C.vlt_session_free(e.session)
	e.session = nil
}

// Embed returns one vector a sequence.
func (e *Encoder) Embed(sequences [][]int32) ([][]float32, error) {
	var ids []int32
	starts := []int32{0}
	for _, sequence := range sequences {
		ids = append(ids, sequence...)
		starts = append(starts, int32(len(ids)))
	}
	values := make([]float32, len(sequences)*e.embeddingSize)
	err := check(func() C.vlt_status {
		return C.embed(e.session, (*C.int32_t)(first(ids)), C.int64_t(len(ids)),
			(*C.int32_t)(first(starts)), C.int32_t(len(sequences)),
			(*C.float)(first(values)), C.uint64_t(len(values))*C.sizeof_float)
	})
	if err != nil {
		return nil, err
	}
	vectors := make([][]float32, len(sequences))
	for i := range vectors {
		vectors[i] = values[i*e.embeddingSize : (i+1)*e.embeddingSize]
	}
	return vectors, nil
}

// first points to a slice's first value; nil where it has none.
func first[T int32 | float32](values []T) unsafe.Pointer {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Pointer(&values[0])
}
