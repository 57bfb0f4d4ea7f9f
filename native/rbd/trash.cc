#include "rbd/trash.h"

#include <endian.h>

#include "runtime/list.h"

namespace cephkit {
namespace {

Object ToObject(const rbd_trash_image_info_t& entry) {
    static const char* const sources[] = {"user", "mirroring", "migration", "removing", "user-parent"};
    const auto source = static_cast<size_t>(entry.source);
    return {{"id", entry.id},
            {"name", entry.name},
            {"source", source < std::size(sources) ? sources[source] : "unknown"},
            {"deletedAt", Time::Of(entry.deletion_time)},
            {"deferredUntil", Time::Of(entry.deferment_end_time)}};
}

void Move(IoCtx& ioctx, const char* name, uint64_t delay_seconds) {
    Check("rbd_trash_move", rbd_trash_move(ioctx, name, delay_seconds));
}

Object Get(IoCtx& ioctx, const char* id) {
    rbd_trash_image_info_t entry;
    Check("rbd_trash_get", rbd_trash_get(ioctx, id, &entry));
    const Cleanup cleanup([&] { rbd_trash_get_cleanup(&entry); });
    return ToObject(entry);
}

Array ListTrash(IoCtx& ioctx) {
    auto entries = List<rbd_trash_image_info_t>(
        "rbd_trash_list", size_t{256},
        [&](rbd_trash_image_info_t* items, size_t* count) { return rbd_trash_list(ioctx, items, count); });
    if (entries.empty()) CheckExists(ioctx);
    const Cleanup cleanup([&] { rbd_trash_list_cleanup(entries.data(), entries.size()); });
    Array result;
    for (const auto& entry : entries)
        result.push_back(ToObject(entry));
    return result;
}

void Restore(IoCtx& ioctx, const char* id, const char* name) {
    Check("rbd_trash_restore", rbd_trash_restore(ioctx, id, name));
}

// librbd would have an image restored whose removal came to an end half-way, and its missing objects read as
// zeroes. What fails here has failed for the same reason as the removal, which says more.
void KeepFromReturning(IoCtx& ioctx, const std::string& id) {
    constexpr char removing = 2, normal = 0;  // TRASH_IMAGE_STATE_REMOVING, in the place of _NORMAL
    const auto length = htole32(id.size());
    std::string input(reinterpret_cast<const char*>(&length), sizeof(length));
    input += id;
    input += {removing, normal};
    rados_write_op_t operation = rados_create_write_op();
    const Cleanup release([&] { rados_release_write_op(operation); });
    rados_write_op_exec(operation, "rbd", "trash_state_set", input.data(), input.size(), nullptr);
    rados_write_op_operate(operation, ioctx, "rbd_trash", nullptr, LIBRADOS_OPERATION_FULL_FORCE);
}

void Remove(IoCtx& ioctx, const char* id, bool force, Progress* progress) {
    const int result = rbd_trash_remove_with_progress(ioctx, id, force, Progress::Update, progress);
    // In the same job as the removal: who has aborted that may have closed the pool, or be about to exit.
    if (result < 0 && progress->has_begun()) KeepFromReturning(ioctx, id);
    Check("rbd_trash_remove_with_progress", result);
}

// A negative threshold means none.
void Purge(IoCtx& ioctx, int64_t expired_before_seconds, int threshold_percent, Progress* progress) {
    const float threshold = threshold_percent < 0 ? -1 : static_cast<float>(threshold_percent) / 100;
    Check(
        "rbd_trash_purge_with_progress",
        rbd_trash_purge_with_progress(ioctx, expired_before_seconds, threshold, Progress::Update, progress));
}

}  // namespace

void InitTrash(Exports& exports) {
    exports.Blocking<Move>("trashMove");
    exports.Blocking<Get>("trashGet");
    exports.Blocking<ListTrash>("trashList");
    exports.Blocking<Restore>("trashRestore");
    exports.Blocking<Remove>("trashRemove");
    exports.Blocking<Purge>("trashPurge");
}

}  // namespace cephkit
