"""Where everything goes: HOUSE.md's appendix of moves, with the changes that README.md beside this file explains."""

from __future__ import annotations

# old path → new path. Folders end with "/". Python files of FOLDS move first, too (to their own name in the new room).
MOVES: dict[str, str] = {}


def _moves(text: str) -> None:
    for line in text.strip().splitlines():
        if line.strip() and not line.strip().startswith("#"):
            old, new = line.split()
            assert old not in MOVES, old
            MOVES[old] = new


_moves("""
baselines/sanity.py                         baselines/classic.py
baselines/ranking.py                        baselines/ranking.py
baselines/lcrec/recommender.py              baselines/lcrec/method.py
baselines/recbole/table.py                  baselines/recbole/model_table.py
baselines/recbole/catalogue.py              baselines/recbole/model_names.py
baselines/recbole/exchange.py               baselines/recbole/channel.py
baselines/recbole/session.py                baselines/recbole/worker_process.py
baselines/recbole/atomic.py                 baselines/recbole/data.py
baselines/tiger/recommender.py              baselines/tiger/method.py
baselines/tiger/codes.py                    baselines/tiger/item_codes.py
baselines/tiger/samples.py                  harness/generative/tasks/prefix_samples.py

eager/recommender.py                        eager/method.py
eager/contrast.py                           eager/contrastive_loss.py
eager/index.py                              eager/tree_tokenizer.py
eager/balanced.py                           eager/balanced_kmeans.py
eager/behavior.py                           eager/behavior_encoder.py
eager/behavior_din.py                       eager/din.py
eager/behavior_sasrec.py                    eager/sasrec.py
eager/estimate.py                           eager/memory_estimate.py
eager/paper.py                              eager/paper_profile.py

harness/generative/usual.py                 harness/generative/decoding/hf_generate.py
harness/bench/paired.py                     harness/bench/timing.py

harness/cli/catalogue.py                    harness/cli/listings.py
harness/cli/exchange.py                     harness/cli/import_export.py

harness/files.py                            harness/core/files.py
harness/locks.py                            harness/core/locks.py
harness/fingerprint.py                      harness/core/hashing.py
harness/seeding.py                          harness/core/seeding.py
harness/home.py                             harness/core/environment.py
harness/offline.py                          harness/core/offline.py
harness/pace.py                             harness/core/timer.py
harness/generative/trust.py                 harness/core/remote_code.py
harness/protocol/artefacts.py               harness/core/artifact_cache.py
harness/data/readers/files.py               harness/core/json_files.py
harness/jobs/yaml_values.py                 harness/core/config_files.py
harness/jobs/toml_values.py                 harness/core/toml_files.py
harness/generative/paths.py                 harness/core/settings_types.py

harness/data/load.py                        harness/data/loading.py
harness/data/catalogue.py                   harness/data/catalog.py
harness/data/library.py                     harness/data/local_store.py
harness/data/index_file.py                  harness/data/item_index_file.py
harness/data/raw/catalogue.py               harness/data/raw/releases.py
harness/data/raw/files.py                   harness/data/raw/streams.py
harness/data/raw/log.py                     harness/data/raw/interactions.py
harness/data/raw/release.py                 harness/data/raw/parsing.py
harness/data/raw/text.py                    harness/data/raw/text_cleaning.py
harness/data/raw/steps.py                   harness/data/raw/filters.py
harness/data/raw/parts.py                   harness/data/raw/resumable_rows.py
harness/data/raw/compare.py                 harness/data/raw/comparison.py
harness/data/readers/atomic.py              harness/data/readers/recbole_atomic.py
harness/data/readers/columnar.py            harness/data/readers/parquet_tables.py
harness/data/readers/tables.py              harness/data/readers/csv_tables.py
harness/data/readers/log.py                 harness/data/readers/interactions.py

harness/evaluation/paired.py                harness/evaluation/significance.py
harness/evaluation/codes.py                 harness/evaluation/code_level.py
harness/evaluation/integrity.py             harness/evaluation/list_checks.py

harness/jobs/grids.py                       harness/experiments/grid.py
harness/jobs/headings.py                    harness/experiments/file_schema.py
harness/jobs/ablation.py                    harness/experiments/ablation.py
harness/jobs/conduct.py                     harness/experiments/scheduler.py
harness/jobs/executors.py                   harness/experiments/executors.py
harness/jobs/cells.py                       harness/experiments/subprocess_run.py
harness/jobs/cluster.py                     harness/experiments/dask_cluster.py
harness/jobs/cluster_worker.py              harness/experiments/dask_worker.py
harness/jobs/spaces.py                      harness/experiments/search_space.py
harness/jobs/studies.py                     harness/experiments/study.py
harness/jobs/trials.py                      harness/experiments/trials.py
harness/jobs/sampling.py                    harness/experiments/sampler.py
harness/jobs/tuning.py                      harness/experiments/tune.py

harness/generative/instruct/recommender.py  harness/generative/recommender.py
harness/generative/instruct/config.py       harness/generative/config.py
harness/generative/instruct/task_config.py  harness/generative/task_config.py
harness/generative/instruct/profiles.py     harness/generative/profiles.py
harness/generative/instruct/comprehension.py harness/generative/comprehension.py
harness/generative/texts.py                 harness/generative/text_generation.py
harness/generative/codes.py                 harness/generative/item_codes.py
harness/generative/inspection.py            harness/generative/index_statistics.py

harness/generative/beam.py                  harness/generative/decoding/beam_search.py
harness/generative/exhaustive.py            harness/generative/decoding/exhaustive.py
harness/generative/decoding.py              harness/generative/decoding/generate.py
harness/generative/sharing.py               harness/generative/decoding/distributed.py

harness/generative/backbone.py              harness/generative/models/backbone.py
harness/generative/random_models.py         harness/generative/models/random_models.py
harness/generative/adapter.py               harness/generative/models/lora.py
harness/generative/code_lm.py               harness/generative/models/decoder_lm.py
harness/generative/code_tokens.py           harness/generative/models/code_tokens.py
harness/generative/code_t5.py               harness/generative/models/encoder_decoder.py
harness/generative/normaliser.py            harness/generative/models/vocabulary_logsumexp.py
harness/generative/packing.py               harness/generative/models/packing.py
harness/generative/doubles.py               harness/generative/models/precision.py
harness/generative/speed.py                 harness/generative/models/device_speed.py
harness/generative/slab.py                  harness/generative/models/prefix_cache.py
harness/generative/reading.py               harness/generative/models/readers.py
harness/generative/blocks.py                harness/generative/models/fsdp.py

harness/generative/instruct/prompts.py      harness/generative/tasks/prompts.py
harness/generative/instruct/pools.py        harness/generative/tasks/instruction_dataset.py
harness/generative/instruct/spans.py        harness/generative/tasks/token_spans.py
harness/generative/instruct/batches.py      harness/generative/tasks/batching.py
harness/generative/instruct/tasks.py        harness/generative/tasks/mixing.py
harness/generative/instruct/task_texts.py   harness/generative/tasks/item_texts.py
harness/generative/instruct/generated.py    harness/generative/tasks/user_texts.py
harness/generative/instruct/held_out.py     harness/generative/tasks/held_out.py
harness/generative/instruct/intentions.py   harness/generative/tasks/intentions.py

harness/generative/item_index.py            harness/generative/tokenizers/index.py
harness/generative/instruct/code_rows.py    harness/generative/tokenizers/code_embedding_init.py
harness/generative/rqvae.py                 harness/generative/tokenizers/rqvae.py
harness/generative/vectors.py               harness/generative/tokenizers/embeddings.py
harness/generative/semantic.py              harness/generative/tokenizers/text_embeddings.py
harness/generative/encoder.py               harness/generative/tokenizers/text_encoder.py

harness/generative/tuning.py                harness/generative/training/trainer.py
harness/generative/keeping.py               harness/generative/training/checkpoint.py
harness/generative/snapshots.py             harness/generative/training/snapshots.py
harness/generative/shards.py                harness/generative/training/partial_results.py
harness/generative/choosing.py              harness/generative/training/early_stopping.py
harness/generative/team.py                  harness/generative/training/distributed.py
harness/generative/memory.py                harness/generative/training/memory.py
harness/generative/instruct/stages.py       harness/generative/training/stages.py
harness/generative/instruct/losses.py       harness/generative/training/losses.py
harness/generative/instruct/term.py         harness/generative/training/auxiliary_loss.py

harness/protocol/world.py                   harness/protocol/distributed.py
harness/protocol/cuts.py                    harness/protocol/split_points.py
harness/protocol/audit.py                   harness/protocol/audit/audit.py
harness/protocol/findings.py                harness/protocol/audit/checks.py
harness/protocol/canary.py                  harness/protocol/audit/canary.py
harness/protocol/verify.py                  harness/protocol/audit/verification.py
harness/protocol/provenance.py              harness/protocol/audit/provenance.py

harness/reports/chosen.py                   harness/reports/selection.py
harness/reports/peruser.py                  harness/reports/per_user.py
harness/reports/leads.py                    harness/reports/lead_tests.py
harness/reports/gap.py                      harness/reports/published_gap.py
harness/reports/protocols.py                harness/reports/protocol_ranks.py
harness/reports/differences.py              harness/reports/config_diff.py
harness/reports/effort.py                   harness/reports/tuning_effort.py
harness/reports/sheet.py                    harness/reports/tables.py
harness/reports/render.py                   harness/reports/formats.py
harness/reports/page.py                     harness/reports/html_table.py
harness/reports/versus.py                   harness/reports/comparison_tables.py
harness/reports/versus_published.py         harness/reports/published_gap_table.py
harness/reports/report/figure.py            harness/reports/html/figures.py
harness/reports/report/curves.py            harness/reports/html/learning_curves.py
harness/reports/report/groups.py            harness/reports/html/user_groups.py
harness/reports/report/tree.py              harness/reports/html/code_tree.py

harness/jobs/execute.py                     harness/runs/run.py
harness/jobs/prepared.py                    harness/runs/run_inputs.py
harness/jobs/assisting.py                   harness/runs/worker.py
harness/jobs/settings.py                    harness/runs/config.py
harness/jobs/mistakes.py                    harness/runs/config_errors.py
harness/jobs/recording.py                   harness/runs/record.py
harness/jobs/reporting.py                   harness/runs/progress_log.py
harness/jobs/evaluate.py                    harness/runs/external.py
harness/jobs/rankings.py                    harness/runs/ranking_files.py
harness/jobs/commands.py                    harness/runs/reproduce.py
harness/jobs/indices.py                     harness/runs/index_builder.py
harness/jobs/inspection.py                  harness/runs/dataset_check.py
harness/jobs/effort.py                      harness/runs/tuning_effort.py
harness/jobs/processes.py                   harness/runs/distributed.py
harness/jobs/launch.py                      harness/runs/launcher.py
harness/jobs/pulse.py                       harness/runs/heartbeat.py

harness/store/records.py                    harness/store/record.py
harness/store/runs.py                       harness/store/run_store.py
harness/store/seal.py                       harness/store/checksums.py
harness/store/keys.py                       harness/store/run_key.py
harness/store/events.py                     harness/store/event_log.py
harness/store/cost.py                       harness/store/resources.py
harness/store/provenance.py                 harness/store/environment.py

# data files
harness/generative/instruct/plain_text.txt  harness/generative/plain_text.txt
harness/generative/instruct/templates.json  harness/generative/tasks/templates.json
harness/generative/shapes.json              harness/generative/models/shapes.json

# tests
tests/baselines/test_sanity.py              tests/baselines/test_classic.py
tests/baselines/test_tiger_samples.py       tests/generative/tasks/test_prefix_samples.py
tests/bench/test_paired.py                  tests/bench/test_timing.py
tests/data/test_catalogue.py                tests/data/test_catalog.py
tests/data/test_index_file.py               tests/data/test_item_index_file.py
tests/data/raw/test_parts.py                tests/data/raw/test_resumable_rows.py
tests/data/raw/test_steps.py                tests/data/raw/test_filters.py
tests/data/raw/test_kept.py                 tests/data/raw/test_prepare.py
tests/eager/test_behavior.py                tests/eager/test_behavior_encoder.py
tests/eager/test_contrast.py                tests/eager/test_contrastive_loss.py
tests/eager/test_index.py                   tests/eager/test_tree_tokenizer.py
tests/eager/test_recommender.py             tests/eager/test_method.py
tests/eager/test_estimate.py                tests/eager/test_memory_estimate.py
tests/evaluation/test_audit.py              tests/evaluation/test_list_checks.py
tests/evaluation/test_codes.py              tests/evaluation/test_code_level.py
tests/evaluation/test_paired.py             tests/evaluation/test_significance.py
tests/generative/models.py                  tests/generative/toy_models.py
tests/generative/test_adapter.py            tests/generative/models/test_lora.py
tests/generative/test_backbone.py           tests/generative/models/test_backbone.py
tests/generative/test_beam.py               tests/generative/decoding/test_beam_search.py
tests/generative/test_code_t5.py            tests/generative/models/test_encoder_decoder.py
tests/generative/test_code_tokens.py        tests/generative/models/test_code_tokens.py
tests/generative/test_codes.py              tests/generative/test_item_codes.py
tests/generative/test_decoding.py           tests/generative/decoding/test_generate.py
tests/generative/test_doubles.py            tests/generative/models/test_precision.py
tests/generative/test_generate.py           tests/generative/decoding/test_hf_generate.py
tests/generative/test_inspection.py         tests/generative/test_index_statistics.py
tests/generative/test_memory.py             tests/generative/training/test_memory.py
tests/generative/test_normaliser.py         tests/generative/models/test_vocabulary_logsumexp.py
tests/generative/test_packing.py            tests/generative/models/test_packing.py
tests/generative/test_resume.py             tests/generative/decoding/test_resume.py
tests/generative/test_rqvae.py              tests/generative/tokenizers/test_rqvae.py
tests/generative/test_semantic.py           tests/generative/tokenizers/test_text_embeddings.py
tests/generative/test_texts.py              tests/generative/test_text_generation.py
tests/generative/test_trust.py              tests/core/test_remote_code.py
tests/generative/test_tuning.py             tests/generative/training/test_trainer.py
tests/generative/instruct/test_batches.py   tests/generative/tasks/test_batching.py
tests/generative/instruct/test_engines.py   tests/generative/training/test_engines.py
tests/generative/instruct/test_generated.py tests/generative/tasks/test_user_texts.py
tests/generative/instruct/test_losses.py    tests/generative/training/test_losses.py
tests/generative/instruct/test_pools.py     tests/generative/tasks/test_instruction_dataset.py
tests/generative/instruct/test_tasks.py     tests/generative/tasks/test_mixing.py
tests/jobs/fakes.py                         tests/fakes.py
tests/jobs/spaces/fake.toml                 tests/spaces/fake.toml
tests/jobs/clusters.py                      tests/experiments/clusters.py
tests/jobs/test_ablation.py                 tests/experiments/test_ablation.py
tests/jobs/test_cells.py                    tests/experiments/test_subprocess_run.py
tests/jobs/test_cluster.py                  tests/experiments/test_dask_cluster.py
tests/jobs/test_grids.py                    tests/experiments/test_grid.py
tests/jobs/test_spaces.py                   tests/experiments/test_search_space.py
tests/jobs/test_tuning.py                   tests/experiments/test_tune.py
tests/jobs/test_commands.py                 tests/runs/test_reproduce.py
tests/jobs/test_evaluate.py                 tests/runs/test_external.py
tests/jobs/test_execute.py                  tests/runs/test_run.py
tests/jobs/test_settings.py                 tests/runs/test_config.py
tests/protocol/test_artefacts.py            tests/core/test_artifact_cache.py
tests/protocol/test_audit.py                tests/protocol/audit/test_audit.py
tests/protocol/test_provenance.py           tests/protocol/audit/test_provenance.py
tests/protocol/test_verify.py               tests/protocol/audit/test_verification.py
tests/reports/test_leads.py                 tests/reports/test_lead_tests.py
tests/reports/test_protocols.py             tests/reports/test_protocol_ranks.py
tests/reports/test_effort.py                tests/reports/test_tuning_effort.py
tests/reports/test_report.py                tests/reports/html/test_report.py
tests/reports/test_report_browser.py        tests/reports/html/test_browser.py
tests/reports/test_report_codes.py          tests/reports/html/test_code_tree.py
tests/reports/test_report_parts.py          tests/reports/html/test_parts.py
tests/store/test_events.py                  tests/store/test_event_log.py
tests/store/test_runs.py                    tests/store/test_run_store.py
tests/test_files.py                         tests/core/test_files.py
tests/test_locks.py                         tests/core/test_locks.py
tests/test_pace.py                          tests/core/test_timer.py
tests/test_offline.py                       tests/core/test_offline.py

# files that other helpers added in the meantime
harness/switches.py                         harness/core/switches.py
harness/generative/vector_files.py          harness/data/readers/vector_files.py
harness/generative/heads.py                 harness/generative/models/heads.py
harness/generative/dropout.py               harness/generative/models/dropout.py
harness/generative/costs.py                 harness/generative/training/step_cost.py
harness/generative/child_loss.py            harness/generative/training/child_loss.py
""")

# What is in neither table: by folder, longest first; `{}` stands for the path below it.
EXPERIMENT_WORDS = ("grid", "ablat", "stud", "trial", "tun", "space", "cluster", "dask", "cell", "sampl")
DEFAULTS: list[tuple[str, str]] = [
    ("harness/generative/instruct/", "harness/generative/tasks/"),
    ("harness/reports/report/", "harness/reports/html/"),
    ("harness/jobs/", "harness/runs/"),  # names with EXPERIMENT_WORDS go to harness/experiments/
    ("tests/generative/instruct/", "tests/generative/tasks/"),
    ("tests/jobs/", "tests/runs/"),
]
ROOT_FILES = {"__init__", "__main__", "errors", "registry"}  # of harness/: everything else goes to core/
GENERATIVE_ROOT = {"__init__", "recommender", "config", "profiles", "comprehension", "scoring", "text_generation", "item_codes", "task_config", "trie", "exporting", "code_styles"}
GENERATIVE_WORDS = [  # other new files of harness/generative/, by what their name holds
    (("encod", "vector", "embed", "token", "rqvae", "rqkmeans", "kmeans", "quant"), "tokenizers"),
    (("decod", "beam", "trie", "search"), "decoding"),
    (("task", "prompt", "sample", "template"), "tasks"),
    (("model", "backbone", "lm", "adapter", "lora", "head", "pack", "cache"), "models"),
    (("",), "training"),
]

# (from, to, names): top-level names that leave a module; "! names": all but these. Paths are the new ones.
PARTS: list[tuple[str, str, str]] = [
    (
        "harness/data/export.py",
        "harness/data/writers.py",
        "WITH_REVIEWS POSITION _lcrec _atomic _csv _parquet LAYOUTS _flat _times _unused_items _silent_users _broken "
        "_cell _put _rows",
    ),
    (
        "harness/data/loading.py",
        "harness/data/readers/folder.py",
        "! load_dataset",  # all but these, and what only they use
    ),
    (
        "harness/generative/decoding/distributed.py",
        "harness/generative/tokenizers/broadcast.py",
        "made_index made_codes _pack _unpack _told _parts",
    ),
    (
        "harness/generative/training/trainer.py",
        "harness/generative/models/precision.py",
        "Precision best_precision autocast",
    ),
    ("harness/generative/tokenizers/text_encoder.py", "harness/generative/config.py", "EMBEDDED Pooling"),
    ("harness/generative/tokenizers/text_embeddings.py", "harness/generative/config.py", "SemanticConfig"),
    ("harness/generative/tokenizers/embeddings.py", "harness/generative/config.py", "RowsBy by_ids given_files"),
    ("harness/reports/leaderboard.py", "harness/reports/api.py", "leaderboard"),
    ("harness/reports/leaderboard.py", "harness/reports/selection.py", "stored_name"),
    ("harness/experiments/grid.py", "harness/runs/overrides.py", "line flat FROM_BASE FromBase"),
]

# (from, to): the first is folded into the second, if the result has at most 300 lines; else it stays. New paths.
FOLDS: list[tuple[str, str]] = [
    ("baselines/ranking.py", "baselines/classic.py"),
    ("baselines/lcrec/config.py", "baselines/lcrec/method.py"),
    ("baselines/recbole/model_names.py", "baselines/recbole/model_table.py"),
    ("baselines/recbole/channel.py", "baselines/recbole/worker_process.py"),
    ("baselines/recbole/ranking.py", "baselines/recbole/engine.py"),
    ("baselines/recbole/features.py", "baselines/recbole/data.py"),
    ("baselines/recbole/samples.py", "baselines/recbole/data.py"),
    ("baselines/recbole/pretraining.py", "baselines/recbole/data.py"),
    ("baselines/tiger/variants.py", "baselines/tiger/config.py"),
    ("baselines/tiger/item_codes.py", "baselines/tiger/method.py"),
    ("eager/annealing.py", "eager/method.py"),
    ("eager/paper_profile.py", "eager/config.py"),
    ("eager/behavior_config.py", "eager/index_config.py"),
    ("eager/tree.py", "eager/tree_tokenizer.py"),
    ("eager/tree_bench.py", "eager/bench.py"),
    ("harness/bench/machine.py", "harness/bench/timing.py"),
    ("harness/cli/prepare.py", "harness/cli/data.py"),
    ("harness/cli/import_export.py", "harness/cli/data.py"),
    ("harness/cli/summary.py", "harness/cli/output.py"),
    ("harness/store/atomic.py", "harness/core/files.py"),
    ("harness/core/offline.py", "harness/core/environment.py"),
    ("harness/core/remote_code.py", "harness/core/environment.py"),
    ("harness/core/toml_files.py", "harness/core/config_files.py"),
    ("harness/data/packaged.py", "harness/data/readers/movielens.py"),
    ("harness/data/raw/resumable_rows.py", "harness/data/raw/streams.py"),
    ("harness/data/raw/comparison.py", "harness/data/raw/prepare.py"),
    ("harness/evaluation/history.py", "harness/evaluation/list_checks.py"),
    ("harness/experiments/dask_worker.py", "harness/experiments/dask_cluster.py"),
    ("harness/experiments/trials.py", "harness/experiments/study.py"),
    ("harness/generative/scoring.py", "harness/generative/config.py"),
    ("harness/generative/task_config.py", "harness/generative/config.py"),
    ("harness/generative/index_statistics.py", "harness/generative/item_codes.py"),
    ("harness/generative/models/code_tokens.py", "harness/generative/models/decoder_lm.py"),
    ("harness/generative/tasks/mixing.py", "harness/generative/tasks/batching.py"),
    ("harness/generative/tasks/user_texts.py", "harness/generative/tasks/item_texts.py"),
    ("harness/generative/tasks/held_out.py", "harness/generative/tasks/item_texts.py"),
    ("harness/generative/tokenizers/code_embedding_init.py", "harness/generative/tokenizers/index.py"),
    ("harness/generative/training/snapshots.py", "harness/generative/training/checkpoint.py"),
    ("harness/protocol/split_points.py", "harness/protocol/protocol.py"),
    ("harness/reports/published_gap_table.py", "harness/reports/published_gap.py"),
    ("harness/reports/html/rows.py", "harness/reports/html/build.py"),
    ("harness/runs/run_inputs.py", "harness/runs/run.py"),
    ("harness/runs/worker.py", "harness/runs/run.py"),
    ("harness/store/checksums.py", "harness/store/run_store.py"),
]

# What a name of a folded module is called where the other module has one of that name: (new module, name) → name.
COLLISIONS: dict[tuple[str, str], str] = {
    ("harness.cli.prepare", "_shown"): "_published_row",
    ("harness.cli.import_export", "Where"): "DatasetArgument",
    ("harness.cli.import_export", "register"): "register_import_export",
    ("harness.store.atomic", "write_text"): "write_result_text",
    ("harness.store.atomic", "writing"): "writing_results",
    ("harness.store.atomic", "MEND"): "RESULTS_MEND",
    ("harness.core.toml_files", "parse"): "parse_toml",
    ("harness.core.toml_files", "read"): "read_toml",
    ("harness.experiments.dask_worker", "POLL"): "WORKER_POLL",
}

DOCSTRINGS = {
    "harness/core/__init__.py": "What every room uses: files, locks, hashes, seeds, the environment, caches.",
    "harness/experiments/__init__.py": "Many runs: grids, ablations, tuning, and where they are executed.",
    "harness/runs/__init__.py": "One run: its configuration, its execution, its record.",
    "harness/generative/decoding/__init__.py": "Codes to ranked items: trie, beam search, exhaustive scoring.",
    "harness/generative/models/__init__.py": "Sequence models over text and code tokens, and how they read prompts.",
    "harness/generative/tasks/__init__.py": "Training samples: prompts, instruction tasks, batches.",
    "harness/generative/tokenizers/__init__.py": "Items to codes: item embeddings, RQ-VAE, the item index.",
    "harness/generative/training/__init__.py": "The trainer, its checkpoints, its losses and stages.",
    "harness/protocol/audit/__init__.py": "Checks that a split leaks nothing.",
    "harness/reports/html/__init__.py": "The report as one HTML page.",
    "harness/data/writers.py": "Writes a data set in each of the supported layouts.",
    "harness/data/readers/folder.py": "Recognises the layout of a folder and reads it.",
    "harness/generative/tokenizers/broadcast.py": "Item embeddings and codes: made by the first process, sent to all.",
    "harness/reports/api.py": "`harness.leaderboard`: the leaderboard as a data frame.",
    "harness/runs/overrides.py": "Settings as the `--set` words of a command line.",
}

# (new path, old text, new text): strings that no rule finds.
PATCHES: list[tuple[str, str, str]] = [
    ("harness/generative/models/backbone.py", 'files("harness.generative")', 'files("harness.generative.models")'),
    ("harness/generative/tasks/prompts.py", 'files("harness.generative.instruct")', 'files("harness.generative.tasks")'),
    ("harness/generative/comprehension.py", 'files("harness.generative.tasks")', 'files("harness.generative")'),
    ("harness/reports/html/document.py", 'files("harness.reports.report")', 'files("harness.reports.html")'),
    ("tests/reports/html/test_parts.py", 'files("harness.reports.report")', 'files("harness.reports.html")'),
]
