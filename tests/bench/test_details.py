import bench_summary

from gnnbridge.bench.details import details


def test_every_cell_has_its_row() -> None:
    summary = bench_summary.make()
    table = details(summary)
    assert len(table['rows']) == len(summary['cells']) == 420
    assert {len(row['cells']) for row in table['rows']} == {
        len(table['columns'])
    }
    place = next(i for i, c in enumerate(summary['cells']) if c['control'])
    cell = summary['cells'][place]
    row = dict(
        zip(table['columns'], table['rows'][place]['cells'], strict=True)
    )
    assert table['rows'][place]['name'] == cell['task']
    assert row['rewiring']['text'] == 'random'
    assert row['learning rate']['text'] == '0.001'
    assert row['strength']['text'] == '0.5'
    assert row['validation']['text'] == f'{100 * cell["val_mean"]:.1f}'
    assert row['trained']['value'] == cell['trained']
    assert row['CPU s']['text'] == '6.5'


def test_what_has_no_meaning_is_a_dash() -> None:
    summary = bench_summary.make(('csbm',), ('gcn', 'gin'), ())
    summary['cells'][1]['failed'] = ['no memory'] * 5
    first, second = details(summary)['rows']
    # Without rewiring there is no strength.
    assert first['cells'][7]['text'] == '–'
    assert [cell['text'] for cell in second['cells']] == [
        'gin', 'none', 'failed', 'failed', 'failed', '0.001', '0', '–',
        '–', '–', '–', '–',
    ]  # fmt: skip
