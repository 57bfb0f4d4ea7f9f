#include "rbd/pool.h"

#include "rbd/config.h"
#include "rbd/options.h"

namespace cephkit {
namespace {

Object Version() {
    int major, minor, extra;
    rbd_version(&major, &minor, &extra);
    return {{"major", major}, {"minor", minor}, {"extra", extra}};
}

void InitializePool(IoCtx& ioctx, bool force) {
    Check("rbd_pool_init", rbd_pool_init(ioctx, force));
}

Object Stats(IoCtx& ioctx) {
    static const std::pair<const char*, rbd_pool_stat_option_t> options[] = {
        {"images", RBD_POOL_STAT_OPTION_IMAGES},
        {"provisionedBytes", RBD_POOL_STAT_OPTION_IMAGE_PROVISIONED_BYTES},
        {"maxProvisionedBytes", RBD_POOL_STAT_OPTION_IMAGE_MAX_PROVISIONED_BYTES},
        {"snapshots", RBD_POOL_STAT_OPTION_IMAGE_SNAPSHOTS},
        {"trashImages", RBD_POOL_STAT_OPTION_TRASH_IMAGES},
        {"trashProvisionedBytes", RBD_POOL_STAT_OPTION_TRASH_PROVISIONED_BYTES},
        {"trashMaxProvisionedBytes", RBD_POOL_STAT_OPTION_TRASH_MAX_PROVISIONED_BYTES},
        {"trashSnapshots", RBD_POOL_STAT_OPTION_TRASH_SNAPSHOTS}};
    rbd_pool_stats_t stats;
    rbd_pool_stats_create(&stats);
    const Cleanup destroy([&] { rbd_pool_stats_destroy(stats); });
    uint64_t values[std::size(options)] = {};
    for (size_t i = 0; i < std::size(options); i++) {
        Check("rbd_pool_stats_option_add_uint64",
              rbd_pool_stats_option_add_uint64(stats, options[i].second, &values[i]));
    }
    Check("rbd_pool_stats_get", rbd_pool_stats_get(ioctx, stats));
    if (values[0] == 0) CheckExists(ioctx);
    Object result;
    for (size_t i = 0; i < std::size(options); i++)
        result.emplace_back(options[i].first, values[i]);
    return result;
}

Array ListImages(IoCtx& ioctx) {
    auto images = List<rbd_image_spec_t>(
        "rbd_list2", size_t{1024},
        [&](rbd_image_spec_t* items, size_t* count) { return rbd_list2(ioctx, items, count); });
    if (images.empty()) CheckExists(ioctx);
    const Cleanup cleanup([&] { rbd_image_spec_list_cleanup(images.data(), images.size()); });
    Array result;
    for (const auto& image : images)
        result.push_back(Object{{"id", image.id}, {"name", image.name}});
    return result;
}

void CreateImage(IoCtx& ioctx, const char* name, uint64_t size, ImageOptions* options) {
    Check("rbd_create4", rbd_create4(ioctx, name, size, *options));
}

void CloneImage(IoCtx& parent_ioctx, const char* parent, const char* snapshot, IoCtx& ioctx, const char* name,
                ImageOptions* options) {
    Check("rbd_clone3", rbd_clone3(parent_ioctx, parent, snapshot, ioctx, name, *options));
}

void RemoveImage(IoCtx& ioctx, const char* name, Progress* progress) {
    Check("rbd_remove_with_progress", rbd_remove_with_progress(ioctx, name, Progress::Update, progress));
}

void RenameImage(IoCtx& ioctx, const char* name, const char* new_name) {
    Check("rbd_rename", rbd_rename(ioctx, name, new_name));
}

void CreateNamespace(IoCtx& ioctx, const char* name) {
    Check("rbd_namespace_create", rbd_namespace_create(ioctx, name));
}

void RemoveNamespace(IoCtx& ioctx, const char* name) {
    Check("rbd_namespace_remove", rbd_namespace_remove(ioctx, name));
}

Array ListNamespaces(IoCtx& ioctx) {
    const auto names = List<char>("rbd_namespace_list", size_t{1024}, [&](char* buffer, size_t* size) {
        return rbd_namespace_list(ioctx, buffer, size);
    });
    if (names.empty()) CheckExists(ioctx);
    return ToArray(SplitStrings(names.data(), names.size()));
}

bool NamespaceExists(IoCtx& ioctx, const char* name) {
    bool exists = false;
    Check("rbd_namespace_exists", rbd_namespace_exists(ioctx, name, &exists));
    return exists;
}

std::string GetPoolMetadata(IoCtx& ioctx, const char* key) {
    return GetMetadata("rbd_pool_metadata_get", [&](char* value, size_t* size) {
        return rbd_pool_metadata_get(ioctx, key, value, size);
    });
}

void SetPoolMetadata(IoCtx& ioctx, const char* key, const char* value) {
    Check("rbd_pool_metadata_set", rbd_pool_metadata_set(ioctx, key, value));
}

void RemovePoolMetadata(IoCtx& ioctx, const char* key) {
    Check("rbd_pool_metadata_remove", rbd_pool_metadata_remove(ioctx, key));
}

Array ListPoolMetadata(IoCtx& ioctx, const char* after, uint64_t limit) {
    return ListMetadata("rbd_pool_metadata_list",
                        [&](char* keys, size_t* keys_size, char* values, size_t* size) {
                            return rbd_pool_metadata_list(ioctx, after, limit, keys, keys_size, values, size);
                        });
}

Array ListPoolConfig(IoCtx& ioctx) {
    return ListConfig(
        "rbd_config_pool_list",
        [&](rbd_config_option_t* options, int* count) { return rbd_config_pool_list(ioctx, options, count); },
        rbd_config_pool_list_cleanup);
}

}  // namespace

void InitPool(Exports& exports) {
    exports.Sync<Version>("rbdVersion");
    exports.Blocking<InitializePool>("poolInitialize");
    exports.Blocking<Stats>("poolStats");
    exports.Blocking<ListImages>("poolListImages");
    exports.Blocking<CreateImage>("poolCreateImage");
    exports.Blocking<CloneImage>("poolCloneImage");
    exports.Blocking<RemoveImage>("poolRemoveImage");
    exports.Blocking<RenameImage>("poolRenameImage");
    exports.Blocking<CreateNamespace>("poolCreateNamespace");
    exports.Blocking<RemoveNamespace>("poolRemoveNamespace");
    exports.Blocking<ListNamespaces>("poolListNamespaces");
    exports.Blocking<NamespaceExists>("poolNamespaceExists");
    exports.Blocking<GetPoolMetadata>("poolGetMetadata");
    exports.Blocking<SetPoolMetadata>("poolSetMetadata");
    exports.Blocking<RemovePoolMetadata>("poolRemoveMetadata");
    exports.Blocking<ListPoolMetadata>("poolListMetadata");
    exports.Blocking<ListPoolConfig>("poolListConfig");
}

}  // namespace cephkit
