"""Ask a running service: ``python client.py [ADDRESS]``. Prints the steepest fields, and leaves a map here."""

import sys
from pathlib import Path

from graticule.client import Client, RemoteProblem


def main(address: str) -> None:
    """Run three processes on the sample data of the service."""
    heights = {"href": f"{address}/files/samples/elevation.tif"}
    fields = {"href": f"{address}/files/samples/fields.geojson"}
    with Client(address) as client:
        print(*(process.id for process in client.processes()))

        # At once: the answer is the result.
        zones = client.execute("zonal-statistics", {"raster": heights, "zones": fields})["zones"]
        by_range = sorted(zones["features"], key=lambda one: one["properties"]["min"] - one["properties"]["max"])
        for field in by_range[:3]:
            told = field["properties"]
            print(f"{told['name']}: {told['min']:.0f} to {told['max']:.0f} m")

        # As a job: progress while it runs, and results that are files.
        job = client.submit("reproject", {"raster": heights, "crs": "EPSG:3857", "resolution": 20})
        job = client.wait(job, on_progress=lambda status: print(status.status, status.progress))
        saved = client.save_results(client.results(job), Path())
        print(saved["result"])

        # A mistake: every fault is named with its place.
        try:
            client.execute("zonal-statistics", {"raster": heights, "zones": fields, "bands": [0]})
        except RemoteProblem as problem:
            print(problem.status, *(f"{fault.pointer}: {fault.message}" for fault in problem.faults))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")
