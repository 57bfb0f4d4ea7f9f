#include "cephfs/xattr.h"

#include "cephfs/open_directory.h"
#include "cephfs/path.h"
#include "runtime/list.h"

namespace cephkit {
namespace {

// For calls that answer how much they have filled, and fail with ERANGE where that is not enough; they answer
// how much it would be to a size of none.
template <typename Get>
int Fill(std::string& value, Get get) {
    value.resize(256);
    for (;;) {
        int size = get(value.data(), value.size());
        if (size != -ERANGE) {
            value.resize(std::max(size, 0));
            return size;
        }
        // It may grow in between.
        size = get(value.data(), 0);
        if (size < 0) return size;
        value.resize(size + 256);
    }
}

Value Get(Mount& mount, const Path& path, const char* name, bool follow) {
    auto value = FindXattr(mount, path, name, follow);
    if (!value) throw Failure{follow ? "ceph_getxattr" : "ceph_lgetxattr", ENODATA, name};
    return Bytes{*std::move(value)};
}

// Of several names in one go; null for those that are not there.
Array GetSome(Mount& mount, const Path& path, const StringList& names, bool follow) {
    Array values;
    for (const auto& name : names) {
        auto value = FindXattr(mount, path, name.c_str(), follow);
        values.push_back(value ? Value(Bytes{*std::move(value)}) : Value(nullptr));
    }
    return values;
}

// The same of each name in a folder; null where there is nothing, or no longer.
Array Survey(Mount& mount, const Path& folder, const FileNames& names, const StringList& xattrs) {
    Array answers;
    for (const auto& name : names.list) {
        try {
            answers.push_back(GetSome(mount, Path{folder.bytes + "/" + name}, xattrs, false));
        } catch (const Failure& failure) {
            if (failure.error != ENOENT) throw;
            answers.push_back(nullptr);
        }
    }
    return answers;
}

Array ListNames(Mount& mount, const Path& path) {
    std::string names;
    const int size = Fill(
        names, [&](char* data, size_t size) { return LIBCEPHFS(ceph_listxattr)(mount, path, data, size); });
    Check("ceph_listxattr", size);
    Array list;
    for (auto& name : SplitStrings(names.data(), names.size()))
        list.push_back(Text("ceph_listxattr", std::move(name)));
    return list;
}

void Set(Mount& mount, const Path& path, const char* name, const Bytes& value, int flags, bool follow) {
    if (follow) {
        CEPHFS(ceph_setxattr, mount, path, name, value.data.data(), value.data.size(), flags);
    } else {
        CEPHFS(ceph_lsetxattr, mount, path, name, value.data.data(), value.data.size(), flags);
    }
}

// The same of a directory that is held.

Array GetSomeOfDirectory(OpenDirectory& directory, const StringList& names) {
    const UserPerm* perms = LIBCEPHFS(ceph_mount_perms)(directory.mount());
    Array values;
    for (const auto& name : names) {
        std::string value;
        const int size = Fill(value, [&](char* data, size_t size) {
            return LIBCEPHFS(ceph_ll_getxattr)(directory.mount(), directory.inode(), name.c_str(), data, size,
                                               perms);
        });
        if (size != -ENODATA) Check("ceph_ll_getxattr", size, size < 0 ? name : "");
        values.push_back(size == -ENODATA ? Value(nullptr) : Value(Bytes{std::move(value)}));
    }
    return values;
}

void SetOfDirectory(OpenDirectory& directory, const char* name, const Bytes& value, int flags) {
    CEPHFS(ceph_ll_setxattr, directory.mount(), directory.inode(), name, value.data.data(), value.data.size(),
           flags, LIBCEPHFS(ceph_mount_perms)(directory.mount()));
}

void Remove(Mount& mount, const Path& path, const char* name) {
    CEPHFS(ceph_removexattr, mount, path, name);
}

}  // namespace

std::optional<std::string> FindXattr(Mount& mount, const char* path, const char* name, bool follow) {
    std::string value;
    const int size = Fill(value, [&](char* data, size_t size) {
        return follow ? LIBCEPHFS(ceph_getxattr)(mount, path, name, data, size)
                      : LIBCEPHFS(ceph_lgetxattr)(mount, path, name, data, size);
    });
    if (size == -ENODATA) return std::nullopt;
    Check(follow ? "ceph_getxattr" : "ceph_lgetxattr", size, size < 0 ? name : "");
    return value;
}

void InitXattr(Exports& exports) {
    exports.Blocking<Get>("fileSystemGetXattr");
    exports.Blocking<GetSome>("fileSystemGetXattrs");
    exports.Blocking<Survey>("fileSystemSurvey");
    exports.Blocking<ListNames>("fileSystemListXattrs");
    exports.Blocking<Set>("fileSystemSetXattr");
    exports.Blocking<Remove>("fileSystemRemoveXattr");
    exports.Blocking<GetSomeOfDirectory>("directoryGetXattrs");
    exports.Blocking<SetOfDirectory>("directorySetXattr");
}

}  // namespace cephkit
