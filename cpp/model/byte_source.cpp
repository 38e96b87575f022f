// Files are read with pread, not mapped: when another process truncates a mapped file, touching
// the lost pages raises SIGBUS, which kills the whole process. pread reports a short read instead,
// and the weights are copied into their prepared form anyway.
#include "model/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "model/file_error.h"

namespace vlt {
namespace {

std::string system_message(int error_number) {
  return std::generic_category().message(error_number);
}

void check_range(const ByteSource& source, uint64_t offset, uint64_t num_bytes) {
  if (offset <= source.size() && num_bytes <= source.size() - offset) return;
  refuse_file(source.name(), "it ends at byte " + std::to_string(source.size()) + ", before the " +
                                 std::to_string(num_bytes) + " bytes wanted at byte " +
                                 std::to_string(offset));
}

// Owns a descriptor from its opening on, so that a constructor that refuses later still closes it.
class Descriptor {
 public:
  // O_NONBLOCK changes nothing for a regular file; it keeps a named pipe from waiting for a writer.
  explicit Descriptor(const std::string& path)
      : number_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)), error_(errno) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const { return number_; }  // negative: could not be opened
  int error() const { return error_; }    // and why

 private:
  int number_;
  int error_;
};

class FileSource final : public ByteSource {
 public:
  explicit FileSource(const std::string& path)
      : ByteSource(quoted(path, std::string::npos)), descriptor_(path) {
    if (descriptor_.number() < 0) {
      refuse_file(name(), "cannot be opened: " + system_message(descriptor_.error()));
    }
    struct stat status = {};
    if (::fstat(descriptor_.number(), &status) != 0) {
      refuse_file(name(), "cannot be examined: " + system_message(errno));
    }
    if (S_ISDIR(status.st_mode)) {
      refuse_file(name(), "is a folder; give the path of the weights file itself");
    }
    if (!S_ISREG(status.st_mode)) {
      refuse_file(name(), "is a pipe or a device; only a regular file can be read by position");
    }
    size_ = static_cast<uint64_t>(status.st_size);
  }

  uint64_t size() const override { return size_; }

  void read(uint64_t offset, void* destination, uint64_t num_bytes) const override {
    check_range(*this, offset, num_bytes);
    auto* bytes = static_cast<char*>(destination);
    while (num_bytes > 0) {
      const uint64_t count = read_some(offset, bytes, num_bytes);
      offset += count;
      bytes += count;
      num_bytes -= count;
    }
  }

 private:
  // At least one byte, at most 1 GiB: Linux never reads 2 GiB or more in one call.
  uint64_t read_some(uint64_t offset, char* destination, uint64_t num_bytes) const {
    const auto wanted = static_cast<size_t>(std::min<uint64_t>(num_bytes, 1u << 30));
    ssize_t count = -1;
    do {
      count = ::pread(descriptor_.number(), destination, wanted, static_cast<off_t>(offset));
    } while (count < 0 && errno == EINTR);
    if (count > 0) return static_cast<uint64_t>(count);

    const std::string reason = count < 0 ? system_message(errno) : "";
    const std::string place = " at byte " + std::to_string(offset);
    if (count < 0) refuse_file(name(), "cannot be read" + place + ": " + reason);
    refuse_file(name(), "ended" + place + " of the " + std::to_string(size_) +
                            " it had when it was opened; something is rewriting it");
  }

  Descriptor descriptor_;
  uint64_t size_ = 0;
};

class MemorySource final : public ByteSource {
 public:
  MemorySource(const void* bytes, uint64_t num_bytes)
      : ByteSource("<memory>"), bytes_(static_cast<const char*>(bytes)), size_(num_bytes) {}

  uint64_t size() const override { return size_; }

  void read(uint64_t offset, void* destination, uint64_t num_bytes) const override {
    check_range(*this, offset, num_bytes);
    if (num_bytes > 0) std::memcpy(destination, bytes_ + offset, num_bytes);
  }

 private:
  const char* bytes_;
  uint64_t size_;
};

}  // namespace

std::unique_ptr<ByteSource> open_file_source(const std::string& path) {
  return std::make_unique<FileSource>(path);
}

std::unique_ptr<ByteSource> borrow_memory_source(const void* bytes, uint64_t num_bytes) {
  return std::make_unique<MemorySource>(bytes, num_bytes);
}

}  // namespace vlt
