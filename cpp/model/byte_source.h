// Where the bytes of a weights file come from: a file on disk or a caller's memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace vlt {

// Random access to a fixed number of bytes. Reading is const and safe from several threads.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;

  // What error messages call the source: the path in quotes, or "<memory>".
  const std::string& name() const { return name_; }

  // The bytes there were when the source was opened.
  virtual uint64_t size() const = 0;

  // Copies bytes [offset, offset + num_bytes) to destination, all of them or throws kFileError.
  virtual void read(uint64_t offset, void* destination, uint64_t num_bytes) const = 0;

 protected:
  explicit ByteSource(std::string name) : name_(std::move(name)) {}

 private:
  std::string name_;
};

// Opens a regular file for reading; it is closed with the source. Throws kFileError, naming the
// path and the reason.
std::unique_ptr<ByteSource> open_file_source(const std::string& path);

// Reads from bytes that the caller keeps alive as long as the source.
std::unique_ptr<ByteSource> borrow_memory_source(const void* bytes, uint64_t num_bytes);

}  // namespace vlt
