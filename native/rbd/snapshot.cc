#include "rbd/snapshot.h"

#include "rbd/config.h"

namespace cephkit {
namespace {

const char* NamespaceName(rbd_snap_namespace_type_t type) {
    switch (type) {
        case RBD_SNAP_NAMESPACE_TYPE_USER:
            return "user";
        case RBD_SNAP_NAMESPACE_TYPE_GROUP:
            return "group";
        case RBD_SNAP_NAMESPACE_TYPE_TRASH:
            return "trash";
        case RBD_SNAP_NAMESPACE_TYPE_MIRROR:
            return "mirror";
    }
    return "unknown";
}

// Everything about a snapshot is in memory once the image is open, so asking for all of it costs no round
// trip.
Object ToObject(rbd_image_t image, const rbd_snap_info_t& snapshot) {
    timespec created{};
    Check("rbd_snap_get_timestamp", rbd_snap_get_timestamp(image, snapshot.id, &created));
    rbd_snap_namespace_type_t type = RBD_SNAP_NAMESPACE_TYPE_USER;
    Check("rbd_snap_get_namespace_type", rbd_snap_get_namespace_type(image, snapshot.id, &type));
    Object result = {{"id", snapshot.id},
                     {"name", snapshot.name},
                     {"size", snapshot.size},
                     {"createdAt", Time::Of(created)},
                     {"namespace", NamespaceName(type)}};
    if (type == RBD_SNAP_NAMESPACE_TYPE_TRASH) {
        result.emplace_back("originalName",
                            String("rbd_snap_get_trash_namespace", 128, [&](char* name, size_t size) {
                                return rbd_snap_get_trash_namespace(image, snapshot.id, name, size);
                            }));
    }
    int is_protected = 0;
    // Only the user's own snapshots can be protected.
    if (type == RBD_SNAP_NAMESPACE_TYPE_USER) {
        Check("rbd_snap_is_protected", rbd_snap_is_protected(image, snapshot.name, &is_protected));
    }
    result.emplace_back("protected", is_protected != 0);
    return result;
}

Array ListOf(rbd_image_t image) {
    std::vector<rbd_snap_info_t> snapshots(32);
    int count;
    for (;;) {
        int limit = static_cast<int>(snapshots.size());
        count = rbd_snap_list(image, snapshots.data(), &limit);
        if (count != -ERANGE) break;
        snapshots.resize(limit);
    }
    Check("rbd_snap_list", count);
    const Cleanup cleanup([&] { rbd_snap_list_end(snapshots.data()); });
    Array result;
    for (int i = 0; i < count; i++)
        result.push_back(ToObject(image, snapshots[i]));
    return result;
}

// The image, opened once more.
rbd_image_t OpenReadOnly(Image& image) {
    rbd_image_t view;
    const auto id = IdOf(image);
    if (id.empty()) {
        const auto name = GetMetadata(
            "rbd_get_name", [&](char* out, size_t* size) { return rbd_get_name(image, out, size); });
        Check("rbd_open_read_only", rbd_open_read_only(image.ioctx(), name.c_str(), &view, nullptr));
    } else {
        Check("rbd_open_by_id_read_only",
              rbd_open_by_id_read_only(image.ioctx(), id.c_str(), &view, nullptr));
    }
    return view;
}

// An image that is open for writing hears of changes, and rbd_snap_get_timestamp() aborts the process when a
// snapshot has gone since rbd_snap_list() (tracker.ceph.com/issues/47287). So it is asked of a view that
// hears nothing.
Array ListSnapshots(Image& image, bool read_only) {
    if (read_only) return ListOf(image);
    const rbd_image_t view = OpenReadOnly(image);
    const Cleanup close([&] { rbd_close(view); });
    return ListOf(view);
}

void Create(const ChangedImage& image, const char* name, uint32_t flags, Progress* progress) {
    const int result = rbd_snap_create2(image, name, flags, Progress::Update, progress);
    // Before a snapshot, librbd asks the image's users to hold their I/O. It decodes their answers even where
    // there are none, as the cluster has not answered in time.
    Check("rbd_snap_create2", result == -EBADMSG ? -ETIMEDOUT : result);
}

// There is progress only where librbd is to flatten clones.
void Remove(const ChangedImage& image, const char* name, bool unprotect) {
    const uint32_t flags = unprotect ? RBD_SNAP_REMOVE_UNPROTECT : 0;
    Check("rbd_snap_remove2", rbd_snap_remove2(image, name, flags, nullptr, nullptr));
}

void RemoveById(const ChangedImage& image, uint64_t id) {
    Check("rbd_snap_remove_by_id", rbd_snap_remove_by_id(image, id));
}

void Rename(const ChangedImage& image, const char* name, const char* new_name) {
    Check("rbd_snap_rename", rbd_snap_rename(image, name, new_name));
}

void Protect(const ChangedImage& image, const char* name) {
    Check("rbd_snap_protect", rbd_snap_protect(image, name));
}

void Unprotect(const ChangedImage& image, const char* name) {
    Check("rbd_snap_unprotect", rbd_snap_unprotect(image, name));
}

void Rollback(const ChangedImage& image, const char* name, Progress* progress) {
    Check("rbd_snap_rollback_with_progress",
          rbd_snap_rollback_with_progress(image, name, Progress::Update, progress));
}

bool Exists(Image& image, const char* name) {
    bool exists = false;
    Check("rbd_snap_exists", rbd_snap_exists(image, name, &exists));
    return exists;
}

uint64_t GetId(Image& image, const char* name) {
    uint64_t id = 0;
    Check("rbd_snap_get_id", rbd_snap_get_id(image, name, &id));
    return id;
}

// What decides whether it can be cloned.
Object AsParent(Image& image, const char* name) {
    uint64_t features = 0;
    int is_protected = 0;
    Check("rbd_get_features", rbd_get_features(image, &features));
    Check("rbd_snap_is_protected", rbd_snap_is_protected(image, name, &is_protected));
    return {{"id", IdOf(image)}, {"features", features}, {"protected", is_protected != 0}};
}

// null when there is none.
Value GetLimit(Image& image) {
    uint64_t limit = 0;
    Check("rbd_snap_get_limit", rbd_snap_get_limit(image, &limit));
    return limit == UINT64_MAX ? Value(nullptr) : Value(limit);
}

void SetLimit(const ChangedImage& image, uint64_t limit) {
    Check("rbd_snap_set_limit", rbd_snap_set_limit(image, limit));
}

void ClearLimit(const ChangedImage& image) {
    Check("rbd_snap_set_limit", rbd_snap_set_limit(image, UINT64_MAX));
}

}  // namespace

void InitSnapshot(Exports& exports) {
    exports.Blocking<ListSnapshots>("snapshotList");
    exports.Blocking<Create>("snapshotCreate");
    exports.Blocking<Remove>("snapshotRemove");
    exports.Blocking<RemoveById>("snapshotRemoveById");
    exports.Blocking<Rename>("snapshotRename");
    exports.Blocking<Protect>("snapshotProtect");
    exports.Blocking<Unprotect>("snapshotUnprotect");
    exports.Blocking<Rollback>("snapshotRollback");
    exports.Blocking<Exists>("snapshotExists");
    exports.Blocking<GetId>("snapshotId");
    exports.Blocking<AsParent>("snapshotAsParent");
    exports.Blocking<GetLimit>("snapshotGetLimit");
    exports.Blocking<SetLimit>("snapshotSetLimit");
    exports.Blocking<ClearLimit>("snapshotClearLimit");
}

}  // namespace cephkit
