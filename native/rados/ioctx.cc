#include "rados/ioctx.h"

#include "runtime/list.h"
#include "runtime/utf8.h"

namespace cephkit {
namespace {

// A cursor over the objects of a pool, read in batches.
class ObjectList : public Handle {
public:
    static constexpr const char* kKind = "an object list";

    ObjectList(std::shared_ptr<Handle> ioctx, rados_list_ctx_t list)
        : Handle(std::move(ioctx)), list_(list) {}
    operator rados_list_ctx_t() const { return list_; }

private:
    void Destroy() override { rados_nobjects_list_close(list_); }

    rados_list_ctx_t list_;
};

// With full_try, what needs room in a full pool fails, and what needs none is done; librbd passes that on to
// the ioctxs that it makes of this one.
std::shared_ptr<Handle> Open(Cluster& cluster, const char* pool, const char* pool_namespace, bool full_try) {
    rados_ioctx_t ioctx;
    Check("rados_ioctx_create", rados_ioctx_create(cluster, pool, &ioctx));
    rados_ioctx_set_namespace(ioctx, pool_namespace);
    if (full_try) rados_set_pool_full_try(ioctx);
    return std::make_shared<IoCtx>(cluster.shared_from_this(), ioctx);
}

std::shared_ptr<Handle> OpenById(Cluster& cluster, int64_t id, const char* pool_namespace, bool full_try) {
    rados_ioctx_t ioctx;
    Check("rados_ioctx_create2", rados_ioctx_create2(cluster, id, &ioctx));
    rados_ioctx_set_namespace(ioctx, pool_namespace);
    if (full_try) rados_set_pool_full_try(ioctx);
    return std::make_shared<IoCtx>(cluster.shared_from_this(), ioctx);
}

int64_t Id(IoCtx& ioctx) {
    return rados_ioctx_get_id(ioctx);
}

Object Stat(IoCtx& ioctx) {
    rados_pool_stat_t stat;
    Check("rados_ioctx_pool_stat", rados_ioctx_pool_stat(ioctx, &stat));
    return {{"bytes", stat.num_bytes},
            {"objects", stat.num_objects},
            {"objectClones", stat.num_object_clones},
            {"objectCopies", stat.num_object_copies},
            {"objectsMissingOnPrimary", stat.num_objects_missing_on_primary},
            {"objectsUnfound", stat.num_objects_unfound},
            {"objectsDegraded", stat.num_objects_degraded},
            {"reads", stat.num_rd},
            {"readBytes", stat.num_rd_kb * 1024},
            {"writes", stat.num_wr},
            {"writtenBytes", stat.num_wr_kb * 1024},
            {"userBytes", stat.num_user_bytes},
            {"compressedBytes", stat.compressed_bytes},
            {"compressedBytesOriginal", stat.compressed_bytes_orig},
            {"compressedBytesAllocated", stat.compressed_bytes_alloc}};
}

void EnableApplication(IoCtx& ioctx, const char* application, bool force) {
    Check("rados_application_enable", rados_application_enable(ioctx, application, force));
}

Array ListApplications(IoCtx& ioctx) {
    const auto names = List<char>("rados_application_list", size_t{128}, [&](char* buffer, size_t* size) {
        return rados_application_list(ioctx, buffer, size);
    });
    return ToArray(SplitStrings(names.data(), names.size()));
}

// In the namespace of the ioctx, which may be the one that means all (LIBRADOS_ALL_NSPACES).
std::shared_ptr<Handle> ListObjects(IoCtx& ioctx) {
    rados_list_ctx_t list;
    Check("rados_nobjects_list_open", rados_nobjects_list_open(ioctx, &list));
    return std::make_shared<ObjectList>(ioctx.shared_from_this(), list);
}

Array NextObjects(ObjectList& list, uint32_t limit) {
    Array objects;
    while (objects.size() < limit) {
        const char *name, *locator, *object_namespace;
        size_t name_size, locator_size, namespace_size;
        const int result = rados_nobjects_list_next2(list, &name, &locator, &object_namespace, &name_size,
                                                     &locator_size, &namespace_size);
        if (result == -ENOENT) break;
        Check("rados_nobjects_list_next2", result);
        objects.push_back(Object{{"name", Text("rados_nobjects_list_next2", std::string(name, name_size))},
                                 {"namespace", std::string(object_namespace, namespace_size)},
                                 {"locator", locator == nullptr ? "" : std::string(locator, locator_size)}});
    }
    return objects;
}

}  // namespace

void CheckExists(IoCtx& ioctx) {
    char name[1];  // has no room for it, and need not
    const int result = rados_pool_reverse_lookup(rados_ioctx_get_cluster(ioctx), rados_ioctx_get_id(ioctx),
                                                 name, sizeof(name));
    if (result != -ERANGE) Check("rados_pool_reverse_lookup", result);
}

void InitIoCtx(Exports& exports) {
    exports.Blocking<Open>("ioctxOpen");
    exports.Blocking<OpenById>("ioctxOpenById");
    exports.Blocking<Id>("ioctxId");
    exports.Blocking<Stat>("ioctxStat");
    exports.Blocking<EnableApplication>("ioctxEnableApplication");
    exports.Blocking<ListApplications>("ioctxListApplications");
    exports.Blocking<ListObjects>("ioctxListObjects");
    exports.Blocking<NextObjects>("objectListNext");
}

}  // namespace cephkit
