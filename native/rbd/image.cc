#include "rbd/image.h"

#include <algorithm>

#include "rbd/config.h"
#include "rbd/options.h"

namespace cephkit {
namespace {

// An image on its way, which becomes a child of the pool.
class Opening {
public:
    // For librbd to fill in.
    rbd_image_t* In(IoCtx& ioctx, bool watches) {
        ioctx_ = std::static_pointer_cast<IoCtx>(ioctx.shared_from_this());
        watches_ = watches;
        return &image_;
    }
    Value ToValue(const AioResult& result) {
        result.Check();
        return std::shared_ptr<Handle>(std::make_shared<Image>(ioctx_, image_, watches_));
    }

private:
    std::shared_ptr<IoCtx> ioctx_;
    rbd_image_t image_ = nullptr;
    bool watches_ = false;
};

}  // namespace

template <>
struct Parameter<Opening*> : OutParameter<Opening> {};

// librbd says that an image is open at a snapshot, the parent of a clone for one, in the middle of a callback
// of librados that goes on to use it. Whoever closes the image meanwhile, in another thread, frees it, and
// the process aborts. librados runs its callbacks one after the other, so in one of our own that one has
// ended; and so it has where a watch on the image is ended before the image is freed.
void Image::StartDestroy(Closing* closing) {
    const auto on_flushed = [](rados_completion_t completion, void* image) {
        rados_aio_release(completion);
        static_cast<Image*>(image)->StartClose();
    };
    known_size_.Unwatch();
    closing_ = closing;
    if (watches_) return StartClose();
    rados_completion_t completion = nullptr;
    rados_aio_create_completion2(this, on_flushed, &completion);
    rados_aio_watch_flush(rados_ioctx_get_cluster(ioctx_), completion);
}

void Image::StartClose() {
    const auto on_closed = [](rbd_completion_t completion, void* closing) {
        const auto result = rbd_aio_get_return_value(completion);
        rbd_aio_release(completion);
        std::optional<Failure> failure;
        if (result < 0) failure = Failure{"rbd_aio_close", static_cast<int>(-result), ""};
        static_cast<Closing*>(closing)->Ended(std::move(failure));
    };
    rbd_completion_t completion = nullptr;
    rbd_aio_create_completion(closing_, on_closed, &completion);
    const int result = rbd_aio_close(image_, completion);
    if (result == 0) return;
    rbd_aio_release(completion);
    closing_->Ended(Failure{"rbd_aio_close", -result, ""});
}

namespace {

// [worker] Whether librbd refuses to change it, whoever has the lock. False where the cluster does not
// answer.
bool IsReadOnly(Image& image) {
    if (!image.is_open_for_writing()) return true;
    uint64_t features = 0;
    int result = rbd_get_features(image, &features);
    // A journal says by itself who may write, such as rbd-mirror alone.
    if (result == 0 && (features & RBD_FEATURE_JOURNALING) != 0) return true;
    uint64_t operations = 0;
    if (result == 0) result = rbd_get_op_features(image, &operations);
    // Of a librbd that is newer.
    if (result == 0 && (operations & ~RBD_OPERATION_FEATURES_ALL) != 0) return true;
    rbd_lock_mode_t mode;
    char* owner = nullptr;
    size_t count = 1;
    // EINVAL: there is no lock, as librbd itself has opened the image read-only, being a copy that rbd-mirror
    // keeps.
    if (result == 0) result = rbd_lock_get_owners(image, &mode, &owner, &count);
    if (result == 0) rbd_lock_get_owners_cleanup(&owner, count);
    return result < 0 && result != -ENOENT && result != -ETIMEDOUT;
}

}  // namespace

void ChangedImage::Explain(Failure& failure) const {
    if (failure.error == EROFS && !IsReadOnly(*get())) failure.error = ETIMEDOUT;
}

namespace {

int Open(RbdCompletion completion, IoCtx& ioctx, Opening* opening, const char* name,
         const NullableString& snapshot, bool read_only) {
    const auto open = read_only ? rbd_aio_open_read_only : rbd_aio_open;
    return open(ioctx, name, opening->In(ioctx, !read_only && snapshot == nullptr), snapshot, completion);
}

int OpenById(RbdCompletion completion, IoCtx& ioctx, Opening* opening, const char* id,
             const NullableString& snapshot, bool read_only) {
    const auto open = read_only ? rbd_aio_open_by_id_read_only : rbd_aio_open_by_id;
    return open(ioctx, id, opening->In(ioctx, !read_only && snapshot == nullptr), snapshot, completion);
}

template <typename T, typename Call>
T Get(const char* syscall, Call call) {
    T value{};
    Check(syscall, call(&value));
    return value;
}

uint64_t Size(Image& image) {
    return Get<uint64_t>("rbd_get_size", [&](auto* out) { return rbd_get_size(image, out); });
}

// All that librbd knows of an open image without asking the cluster again.
Object Stat(Image& image) {
    const auto info =
        Get<rbd_image_info_t>("rbd_stat", [&](auto* out) { return rbd_stat(image, out, sizeof(*out)); });
    const auto number = [&](const char* syscall, int (*get)(rbd_image_t, uint64_t*)) {
        return Get<uint64_t>(syscall, [&](auto* out) { return get(image, out); });
    };
    const auto time = [&](const char* syscall, int (*get)(rbd_image_t, timespec*)) {
        return Time::Of(Get<timespec>(syscall, [&](auto* out) { return get(image, out); }));
    };
    const int64_t data_pool_id = rbd_get_data_pool_id(image);
    const auto id = IdOf(image);
    return {
        {"name", GetMetadata("rbd_get_name",
                             [&](char* out, size_t* size) { return rbd_get_name(image, out, size); })},
        {"id", id},
        {"size", info.size},
        {"objectSize", info.obj_size},
        {"objects", info.num_objs},
        {"order", info.order},
        {"blockNamePrefix",
         String("rbd_get_block_name_prefix", 64,
                [&](char* out, size_t size) { return rbd_get_block_name_prefix(image, out, size); })},
        {"format", id.empty() ? 1 : 2},
        {"features", number("rbd_get_features", rbd_get_features)},
        {"operationFeatures", number("rbd_get_op_features", rbd_get_op_features)},
        {"flags", number("rbd_get_flags", rbd_get_flags)},
        {"stripeUnit", number("rbd_get_stripe_unit", rbd_get_stripe_unit)},
        {"stripeCount", number("rbd_get_stripe_count", rbd_get_stripe_count)},
        {"overlap", number("rbd_get_overlap", rbd_get_overlap)},
        {"dataPoolId", data_pool_id < 0 ? Value() : Value(data_pool_id)},
        {"createdAt", time("rbd_get_create_timestamp", rbd_get_create_timestamp)},
        {"accessedAt", time("rbd_get_access_timestamp", rbd_get_access_timestamp)},
        {"modifiedAt", time("rbd_get_modify_timestamp", rbd_get_modify_timestamp)},
    };
}

Object ToObject(const rbd_linked_image_spec_t& image) {
    return {{"poolId", image.pool_id},           {"pool", Optional(image.pool_name)},
            {"namespace", image.pool_namespace}, {"id", image.image_id},
            {"name", image.image_name},          {"inTrash", image.trash}};
}

// null when the image is no clone.
Value Parent(Image& image) {
    rbd_linked_image_spec_t parent;
    rbd_snap_spec_t snapshot;
    const int result = rbd_get_parent(image, &parent, &snapshot);
    if (result == -ENOENT) return nullptr;
    Check("rbd_get_parent", result);
    const Cleanup cleanup([&] {
        rbd_linked_image_spec_cleanup(&parent);
        rbd_snap_spec_cleanup(&snapshot);
    });
    auto object = ToObject(parent);
    object.emplace_back("snapshot", Object{{"id", snapshot.id}, {"name", snapshot.name}});
    return object;
}

template <typename Call>
Array ListLinkedImages(const char* syscall, Call call) {
    auto images = List<rbd_linked_image_spec_t>(syscall, size_t{64}, call);
    const Cleanup cleanup([&] { rbd_linked_image_spec_list_cleanup(images.data(), images.size()); });
    Array result;
    for (const auto& image : images)
        result.push_back(ToObject(image));
    return result;
}

// Of the snapshot the image was opened at, or of all its snapshots.
Array Children(Image& image) {
    return ListLinkedImages("rbd_list_children3", [&](rbd_linked_image_spec_t* items, size_t* count) {
        return rbd_list_children3(image, items, count);
    });
}

Array Descendants(Image& image) {
    return ListLinkedImages("rbd_list_descendants", [&](rbd_linked_image_spec_t* items, size_t* count) {
        return rbd_list_descendants(image, items, count);
    });
}

// null when the image is in no group.
Value Group(Image& image) {
    auto group = Get<rbd_group_info_t>("rbd_get_group",
                                       [&](auto* out) { return rbd_get_group(image, out, sizeof(*out)); });
    const Cleanup cleanup([&] { rbd_group_info_cleanup(&group, sizeof(group)); });
    if (group.name == nullptr || *group.name == '\0') return nullptr;
    return Object{{"name", group.name}, {"poolId", group.pool}};
}

// Bytes in extents of the range that exist; it is to begin at an object, and to end at one or beyond the
// image's end. By whole objects, fast-diff answers without reading the objects, and it is
// what `rbd du` counts.
uint64_t UsedBytes(Image& image, const NullableString& from_snapshot, uint64_t offset, uint64_t length,
                   bool include_parent, Progress* progress) {
    struct Sum {
        uint64_t bytes = 0;
        uint64_t size;
        Progress* progress;
        static int Add(uint64_t offset, size_t length, int exists, void* sum) {
            auto* self = static_cast<Sum*>(sum);
            if (exists) self->bytes += length;
            return Progress::Update(offset + length, self->size, self->progress);
        }
    } sum;
    sum.size = Size(image);
    // librbd 16.2.15 aborts the process when it takes a fast diff of nothing.
    if (offset >= sum.size) return 0;
    sum.progress = progress;
    length = std::min(length, sum.size - offset);
    Check("rbd_diff_iterate2",
          rbd_diff_iterate2(image, from_snapshot, offset, length, include_parent, true, Sum::Add, &sum));
    Progress::Update(offset + length, sum.size, progress);
    return sum.bytes;
}

void Resize(const ChangedImage& image, uint64_t size, bool allow_shrink, Progress* progress) {
    Check("rbd_resize2", rbd_resize2(image, size, allow_shrink, Progress::Update, progress));
}

void UpdateFeatures(const ChangedImage& image, uint64_t features, bool enabled) {
    Check("rbd_update_features", rbd_update_features(image, features, enabled));
}

void Flatten(const ChangedImage& image, Progress* progress) {
    Check("rbd_flatten_with_progress", rbd_flatten_with_progress(image, Progress::Update, progress));
}

void Sparsify(const ChangedImage& image, uint64_t sparse_size, Progress* progress) {
    Check("rbd_sparsify_with_progress",
          rbd_sparsify_with_progress(image, sparse_size, Progress::Update, progress));
}

void RebuildObjectMap(const ChangedImage& image, Progress* progress) {
    Check("rbd_rebuild_object_map", rbd_rebuild_object_map(image, Progress::Update, progress));
}

void Copy(Image& image, IoCtx& ioctx, const char* name, ImageOptions* options, uint64_t sparse_size,
          Progress* progress) {
    Check("rbd_copy_with_progress4",
          rbd_copy_with_progress4(image, ioctx, name, *options, Progress::Update, progress, sparse_size));
}

void DeepCopy(Image& image, IoCtx& ioctx, const char* name, ImageOptions* options, Progress* progress) {
    Check("rbd_deep_copy_with_progress",
          rbd_deep_copy_with_progress(image, ioctx, name, *options, Progress::Update, progress));
}

std::string GetImageMetadata(Image& image, const char* key) {
    return GetMetadata("rbd_metadata_get",
                       [&](char* value, size_t* size) { return rbd_metadata_get(image, key, value, size); });
}

void SetImageMetadata(const ChangedImage& image, const char* key, const char* value) {
    Check("rbd_metadata_set", rbd_metadata_set(image, key, value));
}

void RemoveImageMetadata(const ChangedImage& image, const char* key) {
    Check("rbd_metadata_remove", rbd_metadata_remove(image, key));
}

Array ListImageMetadata(Image& image, const char* after, uint64_t limit) {
    return ListMetadata("rbd_metadata_list", [&](char* keys, size_t* keys_size, char* values, size_t* size) {
        return rbd_metadata_list(image, after, limit, keys, keys_size, values, size);
    });
}

Array ListImageConfig(Image& image) {
    return ListConfig(
        "rbd_config_image_list",
        [&](rbd_config_option_t* options, int* count) {
            return rbd_config_image_list(image, options, count);
        },
        rbd_config_image_list_cleanup);
}

Array Watchers(Image& image) {
    auto watchers = List<rbd_image_watcher_t>(
        "rbd_watchers_list", size_t{16},
        [&](rbd_image_watcher_t* items, size_t* count) { return rbd_watchers_list(image, items, count); });
    const Cleanup cleanup([&] { rbd_watchers_list_cleanup(watchers.data(), watchers.size()); });
    Array result;
    for (const auto& watcher : watchers) {
        const Opaque client{static_cast<uint64_t>(watcher.id)};
        result.push_back(
            Object{{"address", watcher.addr}, {"client", client}, {"cookie", Opaque{watcher.cookie}}});
    }
    return result;
}

}  // namespace

std::string IdOf(Image& image) {
    const bool old_format =
        Get<uint8_t>("rbd_get_old_format", [&](auto* out) { return rbd_get_old_format(image, out); });
    if (old_format) return "";  // rbd_get_id fails
    return String("rbd_get_id", 64, [&](char* out, size_t size) { return rbd_get_id(image, out, size); });
}

void InitImage(Exports& exports) {
    // Before the first round trip, librbd copies and validates the whole configuration: 1.5 ms of computing.
    exports.AioOnWorker<Open>("imageOpen", "rbd_aio_open");
    exports.AioOnWorker<OpenById>("imageOpenById", "rbd_aio_open_by_id");
    exports.Blocking<Size>("imageSize");
    exports.Blocking<Stat>("imageStat");
    exports.Blocking<Parent>("imageParent");
    exports.Blocking<Children>("imageChildren");
    exports.Blocking<Descendants>("imageDescendants");
    exports.Blocking<Group>("imageGroup");
    exports.Blocking<UsedBytes>("imageUsedBytes");
    exports.Blocking<Resize>("imageResize");
    exports.Blocking<UpdateFeatures>("imageUpdateFeatures");
    exports.Blocking<Flatten>("imageFlatten");
    exports.Blocking<Sparsify>("imageSparsify");
    exports.Blocking<RebuildObjectMap>("imageRebuildObjectMap");
    exports.Blocking<Copy>("imageCopy");
    exports.Blocking<DeepCopy>("imageDeepCopy");
    exports.Blocking<GetImageMetadata>("imageGetMetadata");
    exports.Blocking<SetImageMetadata>("imageSetMetadata");
    exports.Blocking<RemoveImageMetadata>("imageRemoveMetadata");
    exports.Blocking<ListImageMetadata>("imageListMetadata");
    exports.Blocking<ListImageConfig>("imageListConfig");
    exports.Blocking<Watchers>("imageWatchers");
}

}  // namespace cephkit
