#include "cephfs/file.h"

#include "cephfs/path.h"

namespace cephkit {
namespace {

// Data is copied on its way, so that a call that nobody waits for any more has no memory of JavaScript's: an
// MDS that hangs keeps a read for as long as it likes.

std::shared_ptr<Handle> Open(Mount& mount, const Path& path, int flags, uint32_t mode) {
    if ((flags & O_CREAT) != 0 && !EntryPath::HasName(path.bytes)) throw Failure{"ceph_open", EISDIR, ""};
    const int fd = CEPHFS(ceph_open, mount, path, flags, mode);
    auto file = std::make_shared<File>(std::static_pointer_cast<Mount>(mount.shared_from_this()), fd);
    // Of what is known without asking.
    struct ceph_statx stat;
    LIBCEPHFS(ceph_fstatx)(mount, fd, &stat, 0, AT_NO_ATTR_SYNC);
    file->is_directory = S_ISDIR(stat.stx_mode);
    return file;
}

// In these, a negative position is the file's own, which goes on with each.
Bytes Read(File& file, uint32_t length, int64_t position) {
    // libcephfs 16.2.15 would wait for ever.
    if (file.is_directory) throw Failure{"ceph_read", EISDIR, ""};
    std::string data(length, '\0');
    data.resize(CEPHFS(ceph_read, file.mount(), file.fd(), data.data(), length, position));
    return {std::move(data)};
}

int Write(File& file, const Bytes& data, int64_t position) {
    // Of nothing, at the file's own position, libcephfs takes the negative one for where it ends.
    if (data.data.empty()) return 0;
    return CEPHFS(ceph_write, file.mount(), file.fd(), data.data.data(), data.data.size(), position);
}

void Sync(File& file, bool data_only) {
    CEPHFS(ceph_fsync, file.mount(), file.fd(), data_only);
}

Object Stat(File& file) {
    struct ceph_statx stat;
    CEPHFS(ceph_fstatx, file.mount(), file.fd(), &stat, stat_wanted, 0);
    return ToObject(stat);
}

void Truncate(File& file, int64_t size) {
    CEPHFS(ceph_ftruncate, file.mount(), file.fd(), size);
}

}  // namespace

void File::Destroy() {
    CEPHFS(ceph_close, mount_, fd_);
}

void InitFile(Exports& exports) {
    exports.Blocking<Open>("fileOpen");
    exports.Blocking<Read>("fileRead");
    exports.Blocking<Write>("fileWrite");
    exports.Blocking<Sync>("fileSync");
    exports.Blocking<Stat>("fileStat");
    exports.Blocking<Truncate>("fileTruncate");
}

}  // namespace cephkit
