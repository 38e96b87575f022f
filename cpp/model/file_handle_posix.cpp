// Files by POSIX.
#include "model/file_handle.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace vlt {
namespace {

std::error_code latest_error() { return {errno, std::generic_category()}; }

}  // namespace

// O_NONBLOCK changes nothing for a regular file; it keeps a named pipe from waiting for a writer.
FileHandle::FileHandle(const std::string& path)
    : handle_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (handle_ < 0) error_ = latest_error();
}

FileHandle::~FileHandle() {
  if (handle_ >= 0) ::close(static_cast<int>(handle_));
}

std::error_code FileHandle::examine(Kind& out_kind, uint64_t& out_size) const {
  struct stat status = {};
  if (::fstat(static_cast<int>(handle_), &status) != 0) return latest_error();
  out_kind = S_ISREG(status.st_mode)   ? Kind::kRegular
             : S_ISDIR(status.st_mode) ? Kind::kFolder
                                       : Kind::kOther;
  out_size = static_cast<uint64_t>(status.st_size);
  return {};
}

std::error_code FileHandle::read_some(uint64_t offset, void* destination, uint64_t num_bytes,
                                      uint64_t& out_count) const {
  // Linux never reads 2 GiB or more in one call, macOS refuses to.
  const auto wanted = static_cast<size_t>(std::min<uint64_t>(num_bytes, 1u << 30));
  ssize_t count = -1;
  do {
    count = ::pread(static_cast<int>(handle_), destination, wanted, static_cast<off_t>(offset));
  } while (count < 0 && errno == EINTR);
  if (count < 0) return latest_error();
  out_count = static_cast<uint64_t>(count);
  return {};
}

}  // namespace vlt
