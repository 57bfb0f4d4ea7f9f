#include "rados/cluster.h"

#include "runtime/list.h"

namespace cephkit {
namespace {

Object Version() {
    int major, minor, extra;
    rados_version(&major, &minor, &extra);
    return {{"major", major}, {"minor", minor}, {"extra", extra}};
}

// `name` is the whole entity name, such as client.admin.
std::shared_ptr<Handle> Create(const char* cluster_name, const char* name) {
    rados_t cluster;
    Check("rados_create2", rados_create2(&cluster, cluster_name, name, 0));
    return std::make_shared<Cluster>(cluster);
}

// Without a path, librados looks where Ceph's own programs look.
void ReadConfigFile(Cluster& cluster, const NullableString& path) {
    Check("rados_conf_read_file", rados_conf_read_file(cluster, path));
}

void SetOption(Cluster& cluster, const char* option, const char* value) {
    Check("rados_conf_set", rados_conf_set(cluster, option, value));
}

std::string GetOption(Cluster& cluster, const char* option) {
    std::vector<char> value(256);
    for (;;) {
        const int result = rados_conf_get(cluster, option, value.data(), value.size());
        if (result != -ENAMETOOLONG) {
            Check("rados_conf_get", result);
            return value.data();
        }
        value.resize(value.size() * 2);
    }
}

void Connect(Cluster& cluster) {
    Check("rados_connect", rados_connect(cluster));
}

Object Stat(Cluster& cluster) {
    rados_cluster_stat_t stat;
    Check("rados_cluster_stat", rados_cluster_stat(cluster, &stat));
    return {{"totalBytes", stat.kb * 1024},
            {"usedBytes", stat.kb_used * 1024},
            {"availableBytes", stat.kb_avail * 1024},
            {"objects", stat.num_objects}};
}

std::string Fsid(Cluster& cluster) {
    return String("rados_cluster_fsid", 37,
                  [&](char* buffer, size_t size) { return rados_cluster_fsid(cluster, buffer, size); });
}

Value InstanceId(Cluster& cluster) {
    return Opaque{rados_get_instance_id(cluster)};
}

std::string Addresses(Cluster& cluster) {
    char* addresses = nullptr;
    Check("rados_getaddrs", rados_getaddrs(cluster, &addresses));
    const Cleanup free_addresses([&] { free(addresses); });
    return addresses;
}

// What is in use, or what the operator asks for if that is newer.
int MinCompatibleClient(Cluster& cluster) {
    int8_t in_use = 0;
    int8_t required = 0;
    Check("rados_get_min_compatible_client", rados_get_min_compatible_client(cluster, &in_use, &required));
    return std::max(in_use, required);
}

Array ListPools(Cluster& cluster) {
    std::vector<char> names(4096);
    for (;;) {
        const auto size = Check("rados_pool_list", rados_pool_list(cluster, names.data(), names.size()));
        if (static_cast<size_t>(size) <= names.size())
            return ToArray(SplitStrings(names.data(), names.size()));
        names.resize(size);
    }
}

int64_t LookUpPool(Cluster& cluster, const char* name) {
    return Check("rados_pool_lookup", rados_pool_lookup(cluster, name));
}

std::string ReverseLookUpPool(Cluster& cluster, int64_t id) {
    return String("rados_pool_reverse_lookup", 128, [&](char* buffer, size_t size) {
        return rados_pool_reverse_lookup(cluster, id, buffer, size);
    });
}

void CreatePool(Cluster& cluster, const char* name) {
    Check("rados_pool_create", rados_pool_create(cluster, name));
}

void DeletePool(Cluster& cluster, const char* name) {
    Check("rados_pool_delete", rados_pool_delete(cluster, name));
}

void WaitForLatestOsdmap(Cluster& cluster) {
    Check("rados_wait_for_latest_osdmap", rados_wait_for_latest_osdmap(cluster));
}

void BlocklistAdd(Cluster& cluster, const std::string& address, uint32_t expire_seconds) {
    std::string copy = address;
    Check("rados_blocklist_add", rados_blocklist_add(cluster, copy.data(), expire_seconds));
}

// The four kinds of command differ in their first arguments only.
template <typename Send>
Object Command(const char* syscall, const std::string& command, const Bytes& input, Send send) {
    const char* commands[] = {command.c_str()};
    char* output = nullptr;
    size_t output_size = 0;
    char* status = nullptr;
    size_t status_size = 0;
    const int result =
        send(commands, input.data.data(), input.data.size(), &output, &output_size, &status, &status_size);
    const Cleanup free_buffers([&] {
        rados_buffer_free(output);
        rados_buffer_free(status);
    });
    const std::string status_text(status == nullptr ? "" : std::string(status, status_size));
    Check(syscall, result, status_text);
    return {{"output", Bytes{output == nullptr ? "" : std::string(output, output_size)}},
            {"status", status_text}};
}

Object MonCommand(Cluster& cluster, const std::string& command, const Bytes& input) {
    return Command("rados_mon_command", command, input, [&](const char** commands, auto... rest) {
        return rados_mon_command(cluster, commands, 1, rest...);
    });
}

Object MgrCommand(Cluster& cluster, const std::string& command, const Bytes& input) {
    return Command("rados_mgr_command", command, input, [&](const char** commands, auto... rest) {
        return rados_mgr_command(cluster, commands, 1, rest...);
    });
}

Object OsdCommand(Cluster& cluster, int id, const std::string& command, const Bytes& input) {
    return Command("rados_osd_command", command, input, [&](const char** commands, auto... rest) {
        return rados_osd_command(cluster, id, commands, 1, rest...);
    });
}

Object PgCommand(Cluster& cluster, const char* pg, const std::string& command, const Bytes& input) {
    return Command("rados_pg_command", command, input, [&](const char** commands, auto... rest) {
        return rados_pg_command(cluster, pg, commands, 1, rest...);
    });
}

}  // namespace

void InitCluster(Exports& exports) {
    exports.Sync<Version>("radosVersion");
    exports.Blocking<Create>("clusterCreate");
    exports.Blocking<ReadConfigFile>("clusterReadConfigFile");
    exports.Blocking<SetOption>("clusterSetOption");
    exports.Blocking<GetOption>("clusterGetOption");
    exports.Blocking<Connect>("clusterConnect");
    exports.Blocking<Stat>("clusterStat");
    exports.Blocking<Fsid>("clusterFsid");
    exports.Blocking<InstanceId>("clusterInstanceId");
    exports.Blocking<Addresses>("clusterAddresses");
    exports.Blocking<MinCompatibleClient>("clusterMinCompatibleClient");
    exports.Blocking<ListPools>("clusterListPools");
    exports.Blocking<LookUpPool>("clusterLookUpPool");
    exports.Blocking<ReverseLookUpPool>("clusterReverseLookUpPool");
    exports.Blocking<CreatePool>("clusterCreatePool");
    exports.Blocking<DeletePool>("clusterDeletePool");
    exports.Blocking<WaitForLatestOsdmap>("clusterWaitForLatestOsdmap");
    exports.Blocking<BlocklistAdd>("clusterBlocklistAdd");
    exports.Blocking<MonCommand>("clusterMonCommand");
    exports.Blocking<MgrCommand>("clusterMgrCommand");
    exports.Blocking<OsdCommand>("clusterOsdCommand");
    exports.Blocking<PgCommand>("clusterPgCommand");
}

}  // namespace cephkit
