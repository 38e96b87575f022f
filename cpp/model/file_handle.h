// A file to read by position, by the operating system's own calls: file_handle_SYSTEM.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>

namespace vlt {

// Owns what the system gives for an open file. Reading is const and safe from several threads.
class FileHandle {
 public:
  enum class Kind { kRegular, kFolder, kOther };

  // Never waits: a named pipe without a writer is opened too. The path is UTF-8 on Windows.
  explicit FileHandle(const std::string& path);
  ~FileHandle();
  FileHandle(const FileHandle&) = delete;
  FileHandle& operator=(const FileHandle&) = delete;

  const std::error_code& opening_error() const { return error_; }  // none: it is open

  std::error_code examine(Kind& out_kind, uint64_t& out_size) const;

  // Writes up to num_bytes, and to out_count how many there were: 0 behind the end.
  std::error_code read_some(uint64_t offset, void* destination, uint64_t num_bytes,
                            uint64_t& out_count) const;

 private:
  intptr_t handle_;
  std::error_code error_;
};

}  // namespace vlt
